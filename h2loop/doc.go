// Package h2loop is a server for the questions that an Envoy on the same machine asks:
// gRPC methods, and plain requests, over HTTP/2 and a Unix socket.
//
// It answers on the goroutine that reads. A server that reads on one goroutine, handles
// on another and writes on a third wakes two of them for each message, and with them
// threads of the kernel; for questions that take microseconds to answer that is most of
// what they cost, and all of what they wait for. docs/adr/016 has the figures. What
// takes longer, or waits for something, a service hands to [Call.Go].
//
// It serves a trusted peer: who can reach the socket is Envoy. Frames and headers are
// read by golang.org/x/net/http2; of RFC 9113 it leaves out what no client asks of a
// server like this: priorities, pushing, and trailers of requests.
package h2loop
