package answers

import (
	"fmt"
	"runtime/debug"

	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"github.com/rs/zerolog"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/gateway"
	"github.com/weir-gateway/weir/h2loop"
)

// AccessLog is Envoy's gRPC access log, as far as weir needs one: it learns how
// answers broke off that were to be metered natively. Envoy sends an entry for each that the
// script did not have settled, errors of upstreams among them.
type AccessLog struct {
	gateway *gateway.Gateway
	log     zerolog.Logger
}

// NewAccessLog returns a service that tells that gateway.
func NewAccessLog(g *gateway.Gateway, log zerolog.Logger) *AccessLog {
	return &AccessLog{gateway: g, log: log}
}

// StreamAccessLogs takes entries until Envoy sends no more.
func (s *AccessLog) StreamAccessLogs(call *h2loop.Call) h2loop.Receiver { return &entries{s, call} }

// entries come in one call.
type entries struct {
	log  *AccessLog
	call *h2loop.Call
}

// Receive takes some. What comes of them is nothing that anybody waits for.
func (e *entries) Receive(message []byte) error {
	in := &accesslogv3.StreamAccessLogsMessage{}
	if err := proto.Unmarshal(message, in); err != nil {
		return status.Errorf(codes.InvalidArgument, "this is no StreamAccessLogsMessage: %v", err)
	}
	e.call.Go(func() error {
		for _, entry := range in.GetHttpLogs().GetLogEntry() {
			e.log.entry(entry)
		}
		return nil
	})
	return nil
}

// End has nothing to do.
func (*entries) End(error) {}

// entry tells the gateway of one answer. A bug that one entry meets does not end the
// stream, by which others come.
func (s *AccessLog) entry(e *datav3.HTTPAccessLogEntry) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error().Str("panic", fmt.Sprint(p)).Bytes("stack", debug.Stack()).Msg("an access log entry met a bug in weir")
		}
	}()
	noted := e.GetCommonProperties().GetMetadata().GetFilterMetadata()
	exchange := noted[envoy.MetadataSpace].GetFields()[envoy.MetadataExchange].GetStringValue()
	code := e.GetResponse().GetResponseCode().GetValue()
	s.gateway.Departed(exchange, &gateway.Departure{
		Notes:    gateway.ParseNotes(noted[envoy.AnswerSpace].GetFields()[envoy.MetadataNotes].GetStringValue()),
		Bytes:    int64(e.GetResponse().GetResponseBodyBytes()), //nolint:gosec // a length
		Instead:  code < 200 || code > 299,
		Upstream: upstreamLeft(e.GetCommonProperties().GetResponseFlags()),
	})
}

// upstreamLeft tells whether it was not the client that ended an answer.
func upstreamLeft(f *datav3.ResponseFlags) bool {
	return f.GetUpstreamConnectionTermination() || f.GetUpstreamRemoteReset() || f.GetUpstreamProtocolError() ||
		f.GetUpstreamRequestTimeout() || f.GetStreamIdleTimeout() || f.GetUpstreamMaxStreamDurationReached() || f.GetUpstreamConnectionFailure()
}
