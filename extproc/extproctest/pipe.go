package extproctest

import (
	"context"
	"fmt"
	"io"
	"sync"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// pipe is a gRPC stream in memory: the server's end, and ask for Envoy's.
type pipe struct {
	grpc.ServerStream // nil: only what is below is called
	ctx               context.Context
	cancel            context.CancelFunc
	requests          chan *extprocv3.ProcessingRequest
	responses         chan *extprocv3.ProcessingResponse
	left              chan struct{} // closed when the server has returned
	once              sync.Once
}

func newPipe(ctx context.Context) *pipe {
	p := &pipe{
		requests: make(chan *extprocv3.ProcessingRequest), responses: make(chan *extprocv3.ProcessingResponse),
		left: make(chan struct{}),
	}
	p.ctx, p.cancel = context.WithCancel(ctx)
	return p
}

// Context is the stream's, cancelled when Envoy ends it.
func (p *pipe) Context() context.Context { return p.ctx }

// Recv is the server's side.
func (p *pipe) Recv() (*extprocv3.ProcessingRequest, error) {
	select {
	case m := <-p.requests:
		return m, nil
	case <-p.ctx.Done():
		return nil, status.Error(codes.Canceled, "context canceled")
	}
}

// Send is the server's side.
func (p *pipe) Send(m *extprocv3.ProcessingResponse) error {
	select {
	case p.responses <- m:
		return nil
	case <-p.ctx.Done():
		return io.EOF
	}
}

// ask is Envoy's side: one message, one reply.
func (p *pipe) ask(m *extprocv3.ProcessingRequest) (*extprocv3.ProcessingResponse, error) {
	select {
	case p.requests <- m:
	case <-p.left:
		return nil, fmt.Errorf("the server ended the stream before %T", m.GetRequest())
	}
	select {
	case reply := <-p.responses:
		return reply, nil
	case <-p.left:
		return nil, fmt.Errorf("the server ended the stream instead of replying to %T", m.GetRequest())
	}
}

// close ends the stream from Envoy's side.
func (p *pipe) close() { p.cancel() }

func (p *pipe) serverLeft() { p.once.Do(func() { close(p.left) }) }
