// Package extproc answers Envoy's ext_proc: who calls, may this request pass, to which
// upstream, and what did its answer cost?
//
// One gRPC stream is one exchange. Envoy sends, and waits for a reply to each:
//
//	request headers   package authz tells who calls, or refuses; the reply takes the
//	                  credentials off; no body means a refusal
//	request body      the whole of it: package gateway admits it, and the reply
//	                  names the upstream's cluster, sets its credential, and
//	                  changes the body where it has to; or it refuses
//	response headers  the reply sets and removes headers, and asks for the body
//	                  chunk by chunk if it has to be seen
//	response body     every chunk: metered and passed on
//
// The stream ends whenever Envoy has no more to ask. An answer whose last chunk
// was seen is complete; otherwise the client left, or the upstream broke off.
//
// The package knows phases and mutations, and no policy: that is package
// gateway's. The protocol: envoy/service/ext_proc/v3/external_processor.proto.
package extproc
