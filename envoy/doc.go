// Package envoy renders Envoy's bootstrap from the configuration, and finds and
// runs the Envoy binary.
//
// The bootstrap is built of go-control-plane's typed messages, so that a wrong
// name does not compile, and is checked by the validation rules that come with
// them; [Validate] asks Envoy itself. Its shape:
//
//	listener ─ HTTP connection manager
//	    early header mutation   removes x-weir-* and x-envoy-* that clients send
//	    ext_authz               who calls? (headers only)
//	    ext_proc                may it pass, to which upstream, what did it cost?
//	    router
//
// Routes come in three kinds. Admitted: one a upstream, matched by the header
// x-weir-cluster, which only ext_proc can set. Entry: the paths that lead to
// ext_proc; a request that stays there was not admitted and finds no cluster,
// so nothing unadmitted passes even if a filter fails open. The rest: weir's own
// endpoints, 405 and 404.
package envoy

// Names that package authz, package extproc and the bootstrap agree on.
const (
	// HeaderKey carries the id of the caller's key from authz to extproc and api.
	HeaderKey = "x-weir-key"
	// HeaderCluster carries extproc's choice of upstream to the routes.
	HeaderCluster = "x-weir-cluster"
	// HeaderErrorSource tells clients whose an error is. On an answer that
	// extproc has not touched it marks one that Envoy made itself.
	HeaderErrorSource = "x-weir-error-source"
)
