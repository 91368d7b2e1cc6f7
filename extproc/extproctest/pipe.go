package extproctest

import (
	"context"
	"errors"
	"fmt"
	"io"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/protobuf/proto"

	"github.com/weir-gateway/weir/h2loop"
)

// pipe is a call in memory: what the server knows of it, and ask for Envoy's side.
type pipe struct {
	ctx     context.Context //nolint:containedctx // it is what a call has
	cancel  context.CancelFunc
	server  h2loop.Receiver
	replies chan *extprocv3.ProcessingResponse
	failed  error // why the server has ended the call
}

// replyRoom is more than any server sends before it is asked again.
const replyRoom = 16

func newPipe(ctx context.Context, process Process) *pipe {
	p := &pipe{replies: make(chan *extprocv3.ProcessingResponse, replyRoom)}
	p.ctx, p.cancel = context.WithCancel(ctx)
	p.server = process(p)
	return p
}

// Metadata is nothing: this is no attempt.
func (p *pipe) Metadata(string) string { return "" }

// Context is the call's, cancelled when Envoy ends it.
func (p *pipe) Context() context.Context { return p.ctx }

// Go does it here: Envoy waits for a reply.
func (p *pipe) Go(f func() error) { p.fail(f()) }

// Send is a reply.
func (p *pipe) Send(m proto.Message) error {
	reply, ok := m.(*extprocv3.ProcessingResponse)
	if !ok {
		return fmt.Errorf("a reply is %T", m)
	}
	if p.ctx.Err() != nil {
		return io.ErrClosedPipe
	}
	p.replies <- reply
	return nil
}

func (p *pipe) fail(err error) {
	if err != nil && p.failed == nil {
		p.failed = err
	}
}

// ask is Envoy's side: one message, one reply.
func (p *pipe) ask(m *extprocv3.ProcessingRequest) (*extprocv3.ProcessingResponse, error) {
	text, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	p.fail(p.server.Receive(text))
	select {
	case reply := <-p.replies:
		return reply, nil
	default:
		return nil, errors.Join(fmt.Errorf("the server did not reply to %T", m.GetRequest()), p.failed)
	}
}

// close breaks the call off from Envoy's side.
func (p *pipe) close() {
	p.cancel()
	p.server.End(context.Canceled)
}
