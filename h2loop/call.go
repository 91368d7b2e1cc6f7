package h2loop

import (
	"context"
	"sync"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Receiver takes what a client sends in one call, on one goroutine at a time: as a rule
// on the one that reads the connection, which reads nothing else in the meantime.
type Receiver interface {
	// Receive takes a message, whose bytes are valid until it returns. An error ends the
	// call with the status that it is.
	Receive(message []byte) error
	// End is called last, and once: with io.EOF when the client has ended the call regularly,
	// with another error when it broke off, or ended before what was sent could reach the
	// client. Then the answer ends.
	End(err error)
}

// Call is a call of a gRPC method.
type Call struct {
	stream   *stream
	receiver Receiver
	fields   []hpack.HeaderField

	mu    sync.Mutex
	ctx   context.Context //nolint:containedctx // it is made when somebody asks for it
	stop  context.CancelFunc
	gone  bool // ctx has ended, or would have
	ended bool // the receiver knows
}

// Metadata is what the client sent of that name with the call, "" if it sent nothing. It can be
// asked until the method has returned its Receiver.
func (c *Call) Metadata(name string) string {
	for _, f := range c.fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// Context ends when the client has no more to say, or does not care any longer.
func (c *Call) Context() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx == nil {
		c.ctx, c.stop = context.WithCancel(context.Background())
		if c.gone {
			c.stop()
		}
	}
	return c.ctx
}

// over tells the Receiver that no more will come, unless it knows. It is called by the goroutine
// whose turn it is to call the Receiver.
func (c *Call) over(err error) {
	c.mu.Lock()
	known := c.ended
	c.ended = true
	c.mu.Unlock()
	if known {
		return
	}
	c.cancel()
	if err := c.guarded(func() error {
		c.receiver.End(err)
		return nil
	}); err != nil {
		c.stream.finish(status.Convert(err))
	}
}

func (c *Call) cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	if c.stop != nil {
		c.stop()
	}
}

// Send sends a message, and may be called by any goroutine. It fails once the call is over.
func (c *Call) Send(m proto.Message) error { return c.stream.send(m) }

// Go has a goroutine of its own do what takes long, or waits. What else comes of the call
// is kept until that is done. An error ends the call with the status that it is. Go is called
// by a Receiver.
func (c *Call) Go(f func() error) {
	c.stream.tasks.do(c.stream.conn.server, func() { c.do(f) })
}

func (c *Call) receive(message []byte) {
	c.mu.Lock()
	ended := c.ended
	c.mu.Unlock()
	if !ended {
		c.do(func() error { return c.receiver.Receive(message) })
	}
}

// do does something for the service, whose error ends the call.
func (c *Call) do(f func() error) {
	if err := c.guarded(f); err != nil {
		c.stream.finish(status.Convert(err))
		c.cancel()
		c.stream.tasks.last(func() { c.over(err) }) // after what it has left to Go
	}
}

// guarded does something for the service. A panic is an error like others.
func (c *Call) guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.stream.conn.server.options.Panicked(p)
			err = status.Error(codes.Internal, "the server met a bug")
		}
	}()
	return f()
}

// tasks are done one after the other: by the goroutine that reads, as long as nothing is left to
// another, and else on one that is there while there are any.
type tasks struct {
	mu    sync.Mutex
	queue []func()
	turn  turn
}

// turn is who calls the service.
type turn int

const (
	nobody turn = iota
	reader      // the goroutine that reads
	worker      // the one that is there for it
)

// enter gives the turn to the goroutine that reads, unless there is something to be done before.
func (t *tasks) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.turn != nobody {
		return false
	}
	t.turn = reader
	return true
}

// leave ends the turn of the goroutine that reads. What it has left to another begins.
func (t *tasks) leave(s *Server) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn = nobody
	t.begin(s)
}

// add has f done after what is there.
func (t *tasks) add(s *Server, f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue = append(t.queue, f)
	t.begin(s)
}

// begin begins what is to be done, if it is nobody's turn. mu is held.
func (t *tasks) begin(s *Server) {
	if t.turn == nobody && len(t.queue) > 0 {
		t.turn = worker
		s.running.Go(t.work)
	}
}

// do does f: here, if this is the goroutine for it.
func (t *tasks) do(s *Server, f func()) {
	t.mu.Lock()
	here := t.turn == worker
	t.mu.Unlock()
	if here {
		f()
		return
	}
	t.add(s, f)
}

// last does f after what the goroutine whose turn it is has left to another.
func (t *tasks) last(f func()) {
	t.mu.Lock()
	if t.turn == reader && len(t.queue) > 0 {
		t.queue = append(t.queue, f)
		t.mu.Unlock()
		return
	}
	t.mu.Unlock()
	f()
}

// after does f here and now, unless there is something to be done before. It is called by the
// goroutine that reads.
func (t *tasks) after(s *Server, f func()) {
	if !t.enter() {
		t.add(s, f)
		return
	}
	f()
	t.leave(s)
}

func (t *tasks) work() {
	for {
		t.mu.Lock()
		if len(t.queue) == 0 {
			t.turn = nobody
			t.mu.Unlock()
			return
		}
		f := t.queue[0]
		t.queue = t.queue[1:]
		t.mu.Unlock()
		f()
	}
}
