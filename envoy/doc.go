// Package envoy renders Envoy's bootstrap from the configuration, and finds and
// runs the Envoy binary.
//
// The bootstrap holds everything ([Bootstrap]), or reads routes, upstreams and the
// certificate from files beside it ([WriteFiles]), which may change while Envoy runs.
//
// The bootstrap is built of go-control-plane's typed messages, so that a wrong
// name does not compile, and is checked by the validation rules that come with
// them; [Validate] asks Envoy itself. Its shape:
//
//	listener ─ HTTP connection manager
//	    early header mutation   removes x-weir-* and x-envoy-* that clients send
//	    ext_authz               who calls? (for weir's own endpoints)
//	    lua                     reads the usage of natively metered answers, and tells weir
//	    ext_proc                who calls, may it pass, to which upstream, what did it cost?
//	    router
//	    access log              tells weir of answers that were to be, and broke off
//
// Upstreams that have several keys, or stand in for each other, have another
// cluster with an ext_proc of its own, asked before and after each attempt.
//
// Routes come in three kinds. Admitted: one for each upstream, and one for all
// requests of several attempts, matched by the header x-weir-cluster, which only
// ext_proc can set. Entry: the paths that lead to
// ext_proc; a request that stays there was not admitted and finds no cluster,
// so nothing unadmitted passes even if a filter fails open. The rest: weir's own
// endpoints, 405 and 404.
package envoy

// Names that package authz, package extproc and the bootstrap agree on.
const (
	// HeaderKey carries the id of the caller's key from authz to api, and to extproc
	// where both were asked.
	HeaderKey = "x-weir-key"
	// HeaderCluster carries extproc's choice of upstream to the routes.
	HeaderCluster = "x-weir-cluster"
	// Attempted is the value of HeaderCluster for requests whose attempts are
	// asked about one by one; where each goes stands in dynamic metadata.
	Attempted = "attempted"
	// HeaderRetry, set by extproc on an upstream's answer, has Envoy try again.
	HeaderRetry = "x-weir-retry"
	// HeaderMaxRetries and HeaderFirstByte bound one request's attempts, how many
	// and how long each; see the router's documentation.
	HeaderMaxRetries = "x-envoy-max-retries"
	HeaderFirstByte  = "x-envoy-upstream-rq-per-try-timeout-ms"

	// MetadataSpace is the namespace of what extproc notes of a request.
	MetadataSpace = "weir"
	// What the access log tells of a request, in MetadataSpace: who asked, for what,
	// where it went, and what it took, in tokens.
	NoteKey      = "key"
	NoteModel    = "model"
	NoteUpstream = "upstream"
	NoteInput    = "input_tokens"
	NoteOutput   = "output_tokens"
	// HeaderInput and HeaderOutput tell the script what an answer took, in tokens.
	HeaderInput  = "x-weir-input-tokens"
	HeaderOutput = "x-weir-output-tokens"
	// MetadataOrder lists where the attempts go, in the form of Envoy's
	// PriorityGroupClusterSpecifier.
	MetadataOrder = "priority_groups"
	// MetadataExchange names the exchange.
	MetadataExchange = "exchange"
	// MetadataAnswer has event streams read inside of Envoy: AnswerPass leaves them
	// as they are, AnswerStrip takes the event out that tells only usage.
	MetadataAnswer = "answer"
	AnswerPass     = "pass"
	AnswerStrip    = "strip"
	// MetadataMetering is Native from when a request is admitted whose answer Envoy is to
	// read, until the script has had that settled.
	MetadataMetering = "metering"
	Native           = "native"
	// AnswerSpace is the namespace of what is noted of a natively metered answer.
	AnswerSpace = "weir.answer"
	// MetadataNotes is text; see answer.lua.
	MetadataNotes = "notes"

	// AttributeAttempt counts the attempts of a request, from 1.
	AttributeAttempt = "upstream.request_attempt_count"
	// AttributeCluster is the cluster of an attempt.
	AttributeCluster = "xds.cluster_name"

	// SourceKey is the gRPC metadata that tells authz the client's address, as the
	// site's trusted proxies have it.
	SourceKey = "x-weir-source"

	// ServiceKey is the gRPC metadata that tells which of Envoy's filters asks:
	// ServiceAttempts for the attempts' own, ServiceScripted for one whose answers pass
	// the script that can read them.
	ServiceKey      = "x-weir-filter"
	ServiceAttempts = "attempts"
	ServiceScripted = "scripted"

	// HeaderErrorSource tells clients whose an error is. On an answer that
	// extproc has not touched it marks one that Envoy made itself.
	HeaderErrorSource = "x-weir-error-source"
)
