package h2loop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// long is how long a test waits for what must come.
const long = 20 * time.Second

// method is the path of the method that most tests call.
const method = "/test.Service/Method"

// rig is a server that listens, and clients of it.
type rig struct {
	t       testing.TB
	server  *Server
	address string
	served  chan error // what Serve has returned
	panics  *events
}

// newRig returns a server of one method, with what else is in the options, after some changes.
func newRig(t testing.TB, o Options, open func(*Call) Receiver, changes ...func(*Server)) *rig {
	t.Helper()
	r := &rig{t: t, served: make(chan error, 1), panics: newEvents()}
	if o.MaxMessage == 0 {
		o.MaxMessage = 16 << 20
	}
	if o.Methods == nil {
		o.Methods = map[string]func(*Call) Receiver{}
	}
	if open != nil {
		o.Methods[method] = open
	}
	o.Panicked = func(p any) { r.panics.add("%v", p) }
	// t.TempDir is too long for a socket's address.
	dir, err := os.MkdirTemp("", "h2loop")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r.address = filepath.Join(dir, "s")
	l, err := net.Listen("unix", r.address)
	if err != nil {
		t.Fatal(err)
	}
	r.server = New(o)
	for _, change := range changes {
		change(r.server)
	}
	go func() { r.served <- r.server.Serve(l) }()
	t.Cleanup(r.stop)
	return r
}

// stop stops the server, and fails the test if that takes forever.
func (r *rig) stop() {
	r.t.Helper()
	r.within("Stop", r.server.Stop)
}

// within fails the test if f takes forever.
func (r *rig) within(what string, f func()) {
	r.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	await(r.t, what, done)
}

// await waits for something that is to be closed.
func await(t testing.TB, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(long):
		t.Fatalf("%s takes forever", what)
	}
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(long); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never comes that %s", what)
		}
	}
}

// grpc returns a client of grpc-go with a connection of its own.
func (r *rig) grpc() *grpc.ClientConn {
	r.t.Helper()
	c, err := grpc.NewClient("unix:"+r.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

// bytesCodec has grpc-go send bytes as they are.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "bytes" }

func (bytesCodec) Marshal(v any) ([]byte, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("%T are no bytes", v)
	}
	return b, nil
}

func (bytesCodec) Unmarshal(b []byte, v any) error {
	to, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("%T is not where bytes go", v)
	}
	*to = slices.Clone(b)
	return nil
}

// talk is a call of grpc-go's, of bytes.
type talk struct{ grpc.ClientStream }

// call begins one. It ends with the context.
func (r *rig) call(ctx context.Context, c *grpc.ClientConn) talk {
	r.t.Helper()
	s, err := c.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method, grpc.ForceCodec(bytesCodec{}))
	if err != nil {
		r.t.Fatal(err)
	}
	return talk{s}
}

func (x talk) send(b []byte) error { return x.SendMsg(b) }

func (x talk) receive() (b []byte, err error) {
	err = x.RecvMsg(&b)
	return b, err
}

// ask sends a message and waits for the next one.
func (x talk) ask(message string) (string, error) {
	if err := x.send([]byte(message)); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	b, err := x.receive()
	return string(b), err
}

// wait waits for the end of the call: nil, if it is a good one.
func (x talk) wait() error {
	for {
		if _, err := x.receive(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// message is one whose encoding is b.
func message(b []byte) proto.Message {
	m := &emptypb.Empty{}
	m.ProtoReflect().SetUnknown(slices.Clone(b))
	return m
}

// receiver is a Receiver of functions, which may be nil.
type receiver struct {
	receive func(message []byte) error
	end     func(err error)
}

func (r receiver) Receive(message []byte) error {
	if r.receive == nil {
		return nil
	}
	return r.receive(message)
}

func (r receiver) End(err error) {
	if r.end != nil {
		r.end(err)
	}
}

// echo sends back what it receives.
func echo(c *Call) Receiver {
	return receiver{receive: func(b []byte) error { return c.Send(message(b)) }}
}

// events are what happened, in order.
type events struct {
	mu    sync.Mutex
	lines []string
}

func newEvents() *events { return &events{} }

func (e *events) add(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lines = append(e.lines, fmt.Sprintf(format, args...))
}

func (e *events) all() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.lines)
}

// await waits for so many.
func (e *events) await(t testing.TB, n int) []string {
	t.Helper()
	eventually(t, fmt.Sprintf("%d things have happened", n), func() bool { return len(e.all()) >= n })
	return e.all()
}

// dialer has a client of net/http's kind come to a Unix socket.
func dialer(address string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", address)
	}
}

// patience is how long a server waits for a client that takes nothing.
func patience(d time.Duration) func(*Server) { return func(s *Server) { s.patience = d } }
