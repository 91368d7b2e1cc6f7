package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"

	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/h2loop"
)

// noop answers Envoy's ext_proc as weir does, and decides nothing: its replies are
// made beforehand, and it reads neither headers nor bodies.
type noop struct {
	extprocv3.UnimplementedExternalProcessorServer
	requestHeaders, requestBody              *extprocv3.ProcessingResponse
	responseHeaders, responseBody, otherwise *extprocv3.ProcessingResponse
}

// newNoop returns a server that sends every request to that upstream.
func newNoop(upstream string) *noop {
	return &noop{
		requestHeaders: &extprocv3.ProcessingResponse{
			Response: &extprocv3.ProcessingResponse_RequestHeaders{RequestHeaders: &extprocv3.HeadersResponse{
				Response: &extprocv3.CommonResponse{HeaderMutation: &extprocv3.HeaderMutation{RemoveHeaders: envoy.CredentialHeaders}},
			}},
		},
		requestBody: &extprocv3.ProcessingResponse{
			Response: &extprocv3.ProcessingResponse_RequestBody{RequestBody: &extprocv3.BodyResponse{
				Response: &extprocv3.CommonResponse{
					HeaderMutation:  &extprocv3.HeaderMutation{SetHeaders: []*corev3.HeaderValueOption{header(envoy.HeaderCluster, envoy.ClusterOf(upstream))}},
					ClearRouteCache: true,
				},
			}},
		},
		responseHeaders: &extprocv3.ProcessingResponse{
			Response:     &extprocv3.ProcessingResponse_ResponseHeaders{ResponseHeaders: &extprocv3.HeadersResponse{}},
			ModeOverride: streamed(),
		},
		responseBody: &extprocv3.ProcessingResponse{
			Response: &extprocv3.ProcessingResponse_ResponseBody{ResponseBody: &extprocv3.BodyResponse{}},
		},
		otherwise: &extprocv3.ProcessingResponse{
			Response: &extprocv3.ProcessingResponse_ResponseTrailers{ResponseTrailers: &extprocv3.TrailersResponse{}},
		},
	}
}

// streamed asks for the answer's body chunk by chunk.
func streamed() *filterv3.ProcessingMode {
	return &filterv3.ProcessingMode{
		RequestHeaderMode:   filterv3.ProcessingMode_SEND,
		RequestBodyMode:     filterv3.ProcessingMode_BUFFERED,
		RequestTrailerMode:  filterv3.ProcessingMode_SKIP,
		ResponseHeaderMode:  filterv3.ProcessingMode_SEND,
		ResponseBodyMode:    filterv3.ProcessingMode_STREAMED,
		ResponseTrailerMode: filterv3.ProcessingMode_SKIP,
	}
}

func header(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, RawValue: []byte(value)},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

// Process passes everything on, over grpc-go.
func (n *noop) Process(grpc extprocv3.ExternalProcessor_ProcessServer) error {
	for {
		in, err := grpc.Recv()
		if err != nil {
			return nil //nolint:nilerr // Canceled, EOF: Envoy has no more to ask
		}
		if err := grpc.Send(n.reply(in)); err != nil {
			return nil //nolint:nilerr // Envoy is gone
		}
	}
}

// noopCall does the same over weir's own server.
type noopCall struct {
	*noop
	call *h2loop.Call
}

func (c noopCall) Receive(message []byte) error {
	in := &extprocv3.ProcessingRequest{}
	if err := proto.Unmarshal(message, in); err != nil {
		return fmt.Errorf("read a message of Envoy's: %w", err)
	}
	_ = c.call.Send(c.reply(in)) // unless Envoy is gone
	return nil
}

func (noopCall) End(error) {}

func (n *noop) reply(in *extprocv3.ProcessingRequest) *extprocv3.ProcessingResponse {
	switch in.GetRequest().(type) {
	case *extprocv3.ProcessingRequest_RequestHeaders:
		return n.requestHeaders
	case *extprocv3.ProcessingRequest_RequestBody:
		return n.requestBody
	case *extprocv3.ProcessingRequest_ResponseHeaders:
		return n.responseHeaders
	case *extprocv3.ProcessingRequest_ResponseBody:
		return n.responseBody
	}
	return n.otherwise
}

// messageRoom is what a message needs beside a request's body.
const messageRoom = 1 << 20

// server is one that serves until it is stopped.
type server interface {
	Serve(net.Listener) error
	Stop()
}

// inLoop serves as weir does: newServer in cmd/weir/server.go.
func (n *noop) inLoop(maxBody int) server {
	return h2loop.New(h2loop.Options{
		Methods: map[string]func(*h2loop.Call) h2loop.Receiver{
			extprocv3.ExternalProcessor_Process_FullMethodName: func(c *h2loop.Call) h2loop.Receiver { return noopCall{n, c} },
		},
		MaxMessage: maxBody + messageRoom,
		Panicked:   func(p any) { fmt.Fprintln(os.Stderr, "noop:", p) },
		Failed:     func(err error) { fmt.Fprintln(os.Stderr, "noop:", err) },
	})
}

// overGRPC serves with grpc-go.
func (n *noop) overGRPC(maxBody int) server {
	const window, connWindow = 1 << 20, 16 << 20
	s := grpc.NewServer(
		grpc.MaxConcurrentStreams(math.MaxUint32),
		grpc.MaxRecvMsgSize(maxBody+messageRoom),
		grpc.InitialWindowSize(window),
		grpc.InitialConnWindowSize(connWindow),
		grpc.WaitForHandlers(true),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	)
	extprocv3.RegisterExternalProcessorServer(s, n)
	return s
}

// noopCmd serves the no-op server in a process of its own, until its standard
// input ends: so it cannot outlive who started it.
type noopCmd struct {
	Socket   string `required:"" help:"Unix socket to serve on."`
	Upstream string `required:"" help:"Name of the upstream that every request goes to."`
	MaxBody  int    `required:"" help:"Largest request body, in bytes."`
	GRPC     bool   `name:"grpc" help:"Serve with grpc-go, and not as weir does."`
}

// Run serves.
func (c *noopCmd) Run(ctx context.Context) error {
	listener, err := net.Listen("unix", c.Socket)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	s := newNoop(c.Upstream).inLoop(c.MaxBody)
	if c.GRPC {
		s = newNoop(c.Upstream).overGRPC(c.MaxBody)
	}
	defer context.AfterFunc(ctx, s.Stop)()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		s.Stop()
	}()
	fmt.Println("ready")
	return s.Serve(listener)
}
