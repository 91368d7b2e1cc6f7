package h2loop

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// memory is a transport that is read from what is there, and keeps what is written.
type memory struct {
	in     bytes.Buffer
	out    bytes.Buffer
	step   int // as much is read at once; 0: all
	forget bool
	closed atomic.Int32
}

func (m *memory) Read(b []byte) (int, error) {
	if m.step > 0 {
		b = b[:min(len(b), m.step)]
	}
	return m.in.Read(b)
}

func (m *memory) Write(b []byte) (int, error) {
	if m.forget {
		return len(b), nil
	}
	return m.out.Write(b)
}

func (*memory) interrupt() {}
func (m *memory) close()   { m.closed.Add(1) }

// conversation is what a client sends after the preface.
func conversation(f func(fr *http2.Framer, headers func(names ...string) []byte)) []byte {
	var b, block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	f(http2.NewFramer(&b, nil), func(names ...string) []byte {
		block.Reset()
		for i := 0; i < len(names); i += 2 {
			_ = encoder.WriteField(hpack.HeaderField{Name: names[i], Value: names[i+1]})
		}
		return block.Bytes()
	})
	return b.Bytes()
}

func seeds() [][]byte {
	const settings = http2.SettingInitialWindowSize
	grpc := []string{":method", "POST", ":scheme", "http", ":path", method, "content-type", "application/grpc"}
	plain := []string{":method", "POST", ":scheme", "http", ":path", "/"}
	return [][]byte{
		nil,
		conversation(func(f *http2.Framer, headers func(...string) []byte) { // two calls
			_ = f.WriteSettings(http2.Setting{ID: settings, Val: 1 << 20})
			_ = f.WriteWindowUpdate(0, 1<<20)
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: headers(grpc...)})
			_ = f.WriteData(1, false, append(frame("hello"), frame("go")...))
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, EndHeaders: true, BlockFragment: headers(grpc...)})
			_ = f.WriteData(3, false, frame("fail")[:7])
			_ = f.WriteData(1, true, frame(""))
			_ = f.WriteData(3, true, frame("fail")[7:])
			_ = f.WritePing(false, [8]byte{1})
		}),
		conversation(func(f *http2.Framer, headers func(...string) []byte) { // little room
			_ = f.WriteSettings(http2.Setting{ID: settings, Val: 3})
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: headers(grpc...)})
			_ = f.WriteDataPadded(1, true, frame("hello"), []byte{0, 0})
			_ = f.WriteSettings(http2.Setting{ID: settings, Val: 0})
			_ = f.WriteWindowUpdate(1, 5)
			_ = f.WriteSettings(http2.Setting{ID: settings, Val: 100})
			_ = f.WriteRSTStream(1, http2.ErrCodeCancel)
		}),
		conversation(func(f *http2.Framer, headers func(...string) []byte) { // requests
			_ = f.WriteSettings()
			block := headers(plain...)
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:2]})
			_ = f.WriteContinuation(1, true, block[2:])
			_ = f.WriteData(1, false, []byte("body"))
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: headers("a", "b")})
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, EndHeaders: true, EndStream: true, BlockFragment: headers(plain...)})
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 5, EndHeaders: true, BlockFragment: headers(plain...)})
			_ = f.WriteData(5, true, make([]byte, 2000))
			_ = f.WriteGoAway(0, http2.ErrCodeNo, nil)
		}),
		conversation(func(f *http2.Framer, headers func(...string) []byte) { // panics
			_ = f.WriteSettings()
			for i, what := range []string{"panic", "go panic", "go twice", "end"} {
				id := uint32(2*i + 1) //nolint:gosec // few
				_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: headers(grpc...)})
				_ = f.WriteData(id, i%2 == 0, frame(what))
			}
		}),
	}
}

// counted counts how often a call is told of its end.
type counted struct {
	ends atomic.Int32
	late atomic.Int32 // messages after it
}

// FuzzFrames has a client send anything after its preface, and then no more.
func FuzzFrames(f *testing.F) {
	for _, seed := range seeds() {
		f.Add(seed, uint16(0))
		f.Add(seed, uint16(1))
		f.Add(seed, uint16(11))
	}
	f.Fuzz(func(t *testing.T, frames []byte, step uint16) {
		var mu sync.Mutex
		var calls []*counted
		s := New(Options{
			MaxMessage: 1000,
			Methods: map[string]func(*Call) Receiver{method: func(c *Call) Receiver {
				n := &counted{}
				mu.Lock()
				calls = append(calls, n)
				mu.Unlock()
				end := ""
				return receiver{
					receive: func(b []byte) error {
						if n.ends.Load() > 0 {
							n.late.Add(1)
						}
						what := string(b)
						switch what {
						case "fail":
							return status.Error(codes.Aborted, what)
						case "panic":
							panic(what)
						case "go twice":
							c.Go(func() error { return c.Send(message(nil)) })
							fallthrough
						case "go":
							c.Go(func() error { return c.Send(message([]byte(what))) })
							return nil
						case "go panic":
							c.Go(func() error { panic(what) })
							return nil
						case "end":
							end = what
						}
						_ = c.Context()
						return c.Send(message(b))
					},
					end: func(error) {
						n.ends.Add(1)
						c.Go(func() error { return c.Send(message(nil)) })
						if end != "" {
							panic(end)
						}
					},
				}
			}},
			Plain: func(r *Request) {
				r.Go(func() { r.Reply(200, Header{"x-length", r.Path}) })
			},
			Panicked: func(p any) {
				if what, ok := p.(string); !ok || what != "panic" && what != "go panic" && what != "end" {
					t.Errorf("panic: %v", p)
				}
			},
		})
		m := &memory{step: int(step)}
		m.in.WriteString(http2.ClientPreface)
		m.in.Write(frames)
		done := make(chan struct{})
		go func() {
			defer close(done)
			newConn(s, m).serve()
			s.running.Wait()
		}()
		select {
		case <-done:
		case <-time.After(long):
			t.Fatal("it hangs")
		}
		for i, c := range calls {
			if ends, late := c.ends.Load(), c.late.Load(); ends != 1 || late > 0 {
				t.Errorf("call %d of %d: %d ends, %d messages after them", i, len(calls), ends, late)
			}
		}
		if n := m.closed.Load(); n != 1 {
			t.Errorf("the transport is closed %d times", n)
		}
		wellFormed(t, &m.out)
	})
}

// wellFormed tells whether a client can read what a server has written.
func wellFormed(t *testing.T, out io.Reader) {
	t.Helper()
	f := http2.NewFramer(nil, out)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	ended := map[uint32]bool{}
	for {
		frame, err := f.ReadFrame()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("a client cannot read it: %v, %v", err, f.ErrorDetail())
		}
		id := frame.Header().StreamID
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			if ended[id] {
				t.Errorf("stream %d: headers after its end", id)
			}
			ended[id] = frame.StreamEnded()
		case *http2.DataFrame:
			if ended[id] {
				t.Errorf("stream %d: DATA after its end", id)
			}
		case *http2.RSTStreamFrame:
			ended[id] = true
		}
	}
}

// TestAPingTakesFewObjects has nobody but the goroutine that reads at work.
func TestAPingTakesFewObjects(t *testing.T) {
	answer := message([]byte("pong"))
	s := New(Options{MaxMessage: 1000, Methods: map[string]func(*Call) Receiver{method: func(c *Call) Receiver {
		return receiver{receive: func([]byte) error { return c.Send(answer) }}
	}}})
	m := &memory{forget: true}
	m.in.WriteString(http2.ClientPreface)
	m.in.Write(conversation(func(f *http2.Framer, headers func(...string) []byte) {
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow})
		_ = f.WriteWindowUpdate(0, maxWindow-initialWindow)
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: headers(
			":method", "POST", ":scheme", "http", ":path", method, "content-type", "application/grpc")})
	}))
	c := newConn(s, m)
	if err := c.handshake(); err != nil {
		t.Fatal(err)
	}
	ping := conversation(func(f *http2.Framer, _ func(...string) []byte) { _ = f.WriteData(1, false, frame("ping")) })
	next := func() {
		if err := c.next(); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		next()
	}
	st := c.stream(1)
	before := st.window
	const most = 2
	if n := testing.AllocsPerRun(1000, func() {
		m.in.Write(ping)
		next()
	}); n > most {
		t.Errorf("%v objects for each message, want at most %d", n, most)
	}
	if sent := before - st.window; sent != 1001*(prefix+4) {
		t.Errorf("%d bytes were sent", sent)
	}
}
