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

	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/gateway"
)

// Server is the ext_proc service.
type Server struct {
	extprocv3.UnimplementedExternalProcessorServer
	gateway *gateway.Gateway
	log     zerolog.Logger
}

// New returns a server that asks that gateway.
func New(g *gateway.Gateway, log zerolog.Logger) *Server {
	return &Server{gateway: g, log: log}
}

// Process serves one exchange, or one attempt of an exchange: it answers every
// message until Envoy sends no more. How the stream ends says nothing about how the
// exchange did.
func (s *Server) Process(grpc extprocv3.ExternalProcessor_ProcessServer) (err error) {
	var st *stream
	defer func() {
		if p := recover(); p != nil {
			line := s.log.Error().Str("panic", fmt.Sprint(p)).Bytes("stack", debug.Stack())
			if st != nil {
				line.Str("request_id", st.call.RequestID)
			}
			line.Msg("a request met a bug in weir")
			err = status.Error(codes.Internal, "weir failed to handle this request")
		}
	}()
	ctx := grpc.Context()
	if slices.Contains(metadata.ValueFromIncomingContext(ctx, envoy.ServiceKey), envoy.ServiceAttempts) {
		return s.serveAttempt(grpc)
	}
	st = &stream{gateway: s.gateway, log: s.log, send: grpc.Send}
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
