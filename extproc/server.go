package extproc

import (
	"context"
	"fmt"
	"runtime/debug"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/rs/zerolog"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/weir-gateway/weir/authz"
	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/gateway"
	"github.com/weir-gateway/weir/h2loop"
)

// Server is the ext_proc service.
type Server struct {
	callers *authz.Server
	gateway *gateway.Gateway
	options Options
	log     zerolog.Logger
}

// Options say how a server serves.
type Options struct {
	// Noted has it tell Envoy whose each exchange is and what it took, for Envoy's access log.
	Noted bool
	// Waits is for limits that are counted elsewhere: questions that need them are not
	// answered by the goroutine that reads others.
	Waits bool
}

// New returns a server that asks callers who calls, and the gateway for the rest.
func New(callers *authz.Server, g *gateway.Gateway, o Options, log zerolog.Logger) *Server {
	return &Server{callers: callers, gateway: g, options: o, log: log}
}

// Call is one of Envoy's calls of Process, as far as a server needs it; [h2loop.Call] says what
// its methods do.
type Call interface {
	Metadata(name string) string
	Context() context.Context
	Send(proto.Message) error
	Go(func() error)
}

// Process serves one exchange, or one attempt of an exchange: it answers every
// message until Envoy sends no more. How the call ends says nothing about how the
// exchange did.
func (s *Server) Process(call Call) h2loop.Receiver {
	service := call.Metadata(envoy.ServiceKey)
	if service == envoy.ServiceAttempts {
		return &attempt{gateway: s.gateway, call: call, waits: s.options.Waits}
	}
	return &stream{
		callers: s.callers, gateway: s.gateway, log: s.log, noted: s.options.Noted, waits: s.options.Waits, rpc: call,
		call: gateway.Call{Scripted: service == envoy.ServiceScripted},
	}
}

// serve does what a message of Envoy's asks for: here, or on a goroutine of its own if it waits
// for something.
func serve(call Call, waits bool, f func() error) error {
	if waits {
		call.Go(f)
		return nil
	}
	return f()
}

// decode reads a message of Envoy's.
func decode(message []byte) (*extprocv3.ProcessingRequest, error) {
	in := &extprocv3.ProcessingRequest{}
	if err := proto.Unmarshal(message, in); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "this is no ProcessingRequest: %v", err)
	}
	return in, nil
}

// logPanic logs a panic.
func logPanic(log zerolog.Logger, panicked any, requestID string) {
	log.Error().Str("panic", fmt.Sprint(panicked)).Bytes("stack", debug.Stack()).
		Str("request_id", requestID).Msg("a request met a bug in weir")
}
