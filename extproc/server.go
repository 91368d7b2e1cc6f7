package extproc

import (
	"fmt"
	"runtime/debug"
	"slices"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/rs/zerolog"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/weir-gateway/weir/authz"
	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/gateway"
)

// Server is the ext_proc service.
type Server struct {
	extprocv3.UnimplementedExternalProcessorServer
	callers *authz.Server
	gateway *gateway.Gateway
	noted   bool
	log     zerolog.Logger
}

// New returns a server that asks callers who calls, and the gateway for the rest. noted has it tell Envoy whose each
// exchange is and what it took, for Envoy's access log.
func New(callers *authz.Server, g *gateway.Gateway, noted bool, log zerolog.Logger) *Server {
	return &Server{callers: callers, gateway: g, noted: noted, log: log}
}

// Process serves one exchange, or one attempt of an exchange: it answers every
// message until Envoy sends no more. How the stream ends says nothing about how the
// exchange did.
func (s *Server) Process(grpc extprocv3.ExternalProcessor_ProcessServer) (err error) {
	var st *stream
	defer func() {
		if p := recover(); p != nil {
			id := ""
			if st != nil {
				id = st.call.RequestID
			}
			logPanic(s.log, p, id)
			err = status.Error(codes.Internal, "weir failed to handle this request")
		}
	}()
	ctx := grpc.Context()
	if slices.Contains(metadata.ValueFromIncomingContext(ctx, envoy.ServiceKey), envoy.ServiceAttempts) {
		return s.serveAttempt(grpc)
	}
	st = &stream{callers: s.callers, gateway: s.gateway, log: s.log, noted: s.noted, send: grpc.Send}
	defer st.end()
	for {
		in, err := grpc.Recv()
		if err != nil {
			return nil //nolint:nilerr // Canceled, EOF: Envoy has no more to ask
		}
		if err := st.answer(ctx, in); err != nil {
			return nil //nolint:nilerr // Envoy is gone
		}
	}
}

// logPanic logs a panic.
func logPanic(log zerolog.Logger, panicked any, requestID string) {
	log.Error().Str("panic", fmt.Sprint(panicked)).Bytes("stack", debug.Stack()).
		Str("request_id", requestID).Msg("a request met a bug in weir")
}
