package h2loop

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestMessagesAreTheSameHoweverTheyAreSplit(t *testing.T) {
	r := newRig(t, Options{}, echo)
	w := r.wire(http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow})
	w.ok(w.WriteWindowUpdate(0, 1<<30))
	want := []string{"", "a", "", "", "bcd", "ef", ""}
	var whole []byte
	for _, m := range want {
		whole = append(whole, frame(m)...)
	}
	id := uint32(1)
	send := func(cuts ...int) {
		t.Helper()
		w.call(id)
		begin := 0
		for _, end := range cuts {
			w.ok(w.WriteData(id, false, whole[begin:end]))
			begin = end
		}
		w.ok(w.WriteData(id, true, whole[begin:]))
		st := w.done(id)
		if diff := cmp.Diff(want, messages(t, st.data)); diff != "" {
			t.Fatalf("split at %v:\n%s", cuts, diff)
		}
		if got := st.heads[len(st.heads)-1]["grpc-status"]; got != "0" {
			t.Fatalf("split at %v: status %q", cuts, got)
		}
		id += 2
	}
	send()
	for i := range len(whole) + 1 {
		send(i)
		for j := i; j <= len(whole); j++ {
			send(i, j)
		}
	}
	var all []int
	for i := range whole {
		all = append(all, i)
	}
	send(all...)
}

func TestAMessageThatIsWrongIsSoHoweverItIsSplit(t *testing.T) {
	for name, tt := range map[string]struct {
		bytes string
		code  codes.Code
	}{
		"compressed":            {"\x01\x00\x00\x00\x02ab", codes.Unimplemented},
		"compressed, not whole": {"\x01\x00\x00\x00\x02a", codes.Unimplemented},
		"too long":              {"\x00\x7f\xff\xff\xffab", codes.ResourceExhausted},
		"longer than an int32":  {"\x00\xff\xff\xff\xffab", codes.ResourceExhausted},
		"not whole":             {"\x00\x00\x00\x00\x03ab", codes.Internal},
		"a prefix alone":        {"\x00\x00\x00\x00\x03", codes.Internal},
		"half a prefix":         {"\x00\x00\x00", codes.Internal},
	} {
		for cut := range len(tt.bytes) + 1 {
			e := newEvents()
			r := newRig(t, Options{}, func(*Call) Receiver {
				return receiver{
					receive: func(b []byte) error {
						e.add("message %q", b)
						return nil
					},
					end: func(err error) { e.add("end %v", status.Code(err)) },
				}
			})
			w := r.wire()
			w.call(1)
			w.ok(w.WriteData(1, false, append(frame("good"), tt.bytes[:cut]...)))
			w.ok(w.WriteData(1, true, []byte(tt.bytes[cut:])))
			st := w.done(1)
			if got := st.heads[len(st.heads)-1]["grpc-status"]; got != fmt.Sprint(int(tt.code)) {
				t.Errorf("%s, split at %d: status %s, want %d", name, cut, got, tt.code)
			}
			w.settle()
			r.stop()
			if diff := cmp.Diff([]string{`message "good"`, "end " + tt.code.String()}, e.all()); diff != "" {
				t.Errorf("%s, split at %d:\n%s", name, cut, diff)
			}
		}
	}
}

func TestACompressedMessageWithoutBytesIsUnimplementedOrNotWhole(t *testing.T) {
	const bad = "\x01\x00\x00\x00\x00"
	for cut := range len(bad) + 1 {
		e := newEvents()
		r := newRig(t, Options{}, func(*Call) Receiver {
			return receiver{receive: func(b []byte) error {
				e.add("message %q", b)
				return nil
			}}
		})
		w := r.wire()
		w.call(1)
		w.ok(w.WriteData(1, false, []byte(bad[:cut])))
		w.ok(w.WriteData(1, true, []byte(bad[cut:])))
		st := w.done(1)
		if got := st.heads[len(st.heads)-1]["grpc-status"]; got != "12" && got != "13" {
			t.Errorf("split at %d: status %s", cut, got)
		}
		r.stop()
		if got := e.all(); len(got) > 0 {
			t.Errorf("split at %d: %q", cut, got)
		}
	}
}

func TestWhatGoDoesKeepsTheRestOfItsCall(t *testing.T) {
	release := make(chan struct{})
	var once sync.Once
	free := func() { once.Do(func() { close(release) }) }
	e := newEvents()
	r := newRig(t, Options{}, func(c *Call) Receiver {
		name := c.Metadata("name")
		return receiver{
			receive: func(b []byte) error {
				e.add("%s: %s", name, b)
				if string(b) == "wait" {
					c.Go(func() error {
						<-release
						e.add("%s: waited", name)
						return nil
					})
					c.Go(func() error { // it does not hold the goroutine that reads
						<-release
						e.add("%s: waited more", name)
						return nil
					})
				}
				return c.Send(message(b))
			},
			end: func(err error) { e.add("%s: %v", name, err) },
		}
	})
	t.Cleanup(free)
	w := r.wire()
	w.call(1, "name", "one")
	w.say(1, false, "wait", "a", strings.Repeat("b", 10))
	w.say(1, true, "c")
	w.call(3, "name", "other")
	w.say(3, true, "x")
	w.done(3)
	want := []string{"one: wait", "other: x", "other: EOF"}
	if diff := cmp.Diff(want, e.all()); diff != "" {
		t.Errorf("while it waits:\n%s", diff)
	}
	if got := messages(t, w.stream(1).data); !slices.Equal(got, []string{"wait"}) || w.stream(1).ended {
		t.Errorf("while it waits: answers %q, ended %v", got, w.stream(1).ended)
	}
	free()
	w.done(1)
	want = append(want, "one: waited", "one: waited more", "one: a", "one: bbbbbbbbbb", "one: c", "one: EOF")
	if diff := cmp.Diff(want, e.all()); diff != "" {
		t.Errorf("after that:\n%s", diff)
	}
}

func TestWhatGoSendsComesBeforeTheEnd(t *testing.T) {
	r := newRig(t, Options{}, func(c *Call) Receiver {
		return receiver{
			receive: func(b []byte) error {
				m := message(b)
				c.Go(func() error { return c.Send(m) })
				return nil
			},
			end: func(error) { c.Go(func() error { return c.Send(message([]byte("last"))) }) },
		}
	})
	w := r.wire()
	for id := uint32(1); id < 200; id += 2 {
		w.call(id)
		w.say(id, true, "a", "b")
		st := w.done(id)
		if got := messages(t, st.data); !slices.Equal(got, []string{"a", "b", "last"}) {
			t.Fatalf("stream %d: %q", id, got)
		}
		if len(st.reset) > 0 {
			t.Errorf("stream %d: %v, though the client had ended", id, st.reset)
		}
	}
}

// TestAClientThatBreaksOffRightAfterItsEndHasBrokenOff has both at hand at once.
func TestAClientThatBreaksOffRightAfterItsEndHasBrokenOff(t *testing.T) {
	for name, tt := range map[string]struct {
		last func(f *http2.Framer) error
		end  error
	}{
		"broken off":     {func(f *http2.Framer) error { return f.WriteRSTStream(1, http2.ErrCodeCancel) }, errReset},
		"not broken off": {func(f *http2.Framer) error { return f.WriteRSTStream(3, http2.ErrCodeCancel) }, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEvents()
			r := newRig(t, Options{}, func(c *Call) Receiver {
				return receiver{
					receive: func(b []byte) error {
						e.add("%s", b)
						return nil
					},
					end: func(err error) { e.add("%v, context %v", err, c.Context().Err()) },
				}
			})
			w := r.wire()
			w.call(1)
			w.call(3)
			w.settle()
			var b bytes.Buffer
			once := http2.NewFramer(&b, nil)
			w.ok(once.WriteData(1, true, frame("question")))
			w.ok(tt.last(once))
			w.write(b.Bytes())
			w.settle()
			got := e.all()
			if diff := cmp.Diff("question", got[0]); diff != "" {
				t.Error(diff)
			}
			if want := tt.end.Error() + ", context context canceled"; !slices.Contains(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
			if want := tt.end == io.EOF; w.stream(1).ended != want { //nolint:errorlint // it is that itself
				t.Errorf("answered: %v, want %v", w.stream(1).ended, want)
			}
		})
	}
}

// TestACallThatWasAnsweredHasEnded has a client end and break off at once, as Envoy does: before it
// could have the answer, or after.
func TestACallThatWasAnsweredHasEnded(t *testing.T) {
	for name, want := range map[string]error{"before": errReset, "after": io.EOF} {
		t.Run(name, func(t *testing.T) {
			e := newEvents()
			r := newRig(t, Options{}, func(c *Call) Receiver {
				return receiver{
					receive: func(b []byte) error { return c.Send(message(b)) },
					end:     func(err error) { e.add("%v", err) },
				}
			})
			w := r.wire()
			w.call(1)
			w.settle()
			var b bytes.Buffer
			once := http2.NewFramer(&b, nil)
			w.ok(once.WriteData(1, false, frame("question")))
			if want == io.EOF { //nolint:errorlint // it is that itself
				w.write(b.Bytes())
				w.settle()
				b.Reset()
			}
			w.ok(once.WriteData(1, true, nil))
			w.ok(once.WriteRSTStream(1, http2.ErrCodeCancel))
			w.write(b.Bytes())
			w.settle()
			if diff := cmp.Diff([]string{want.Error()}, e.all()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestARequestThatIsBrokenOffRightAfterItsEndIsNotServed(t *testing.T) {
	e := newEvents()
	r := newRig(t, Options{Plain: func(r *Request) {
		e.add("%s", r.Path)
		r.Reply(204)
	}}, nil)
	w := r.wire()
	var b bytes.Buffer
	once := http2.NewFramer(&b, nil)
	for i, path := range []string{"/broken", "/whole"} {
		id := uint32(2*i + 1) //nolint:gosec // few
		w.ok(w.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: w.headers(
			":method", "POST", ":scheme", "http", ":path", path, ":authority", "weir")}))
		w.ok(once.WriteData(id, true, []byte("body")))
	}
	w.ok(once.WriteRSTStream(1, http2.ErrCodeCancel))
	w.write(b.Bytes())
	w.done(3)
	w.settle()
	if diff := cmp.Diff([]string{"/whole"}, e.all()); diff != "" {
		t.Error(diff)
	}
	if st := w.stream(1); len(st.heads) > 0 {
		t.Errorf("an answer to what was broken off: %+v", st)
	}
}

func TestTrailersOfARequestEndIt(t *testing.T) {
	r := newRig(t, Options{}, echo)
	w := r.wire()
	w.call(1)
	w.say(1, false, "question")
	w.ok(w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: w.headers("a", "b")}))
	st := w.done(1)
	w.settle()
	if got := messages(t, st.data); !slices.Equal(got, []string{"question"}) || st.heads[1]["grpc-status"] != "0" || len(st.reset) > 0 {
		t.Errorf("answer %+v", st)
	}
}

// TestHeadersThatGoOnKeepNobodyWaiting has a call answered while headers of another are on their way.
func TestHeadersThatGoOnKeepNobodyWaiting(t *testing.T) {
	release := make(chan struct{})
	r := newRig(t, Options{}, func(c *Call) Receiver {
		return receiver{receive: func(b []byte) error {
			m := message(b)
			c.Go(func() error {
				<-release
				return c.Send(m)
			})
			return nil
		}}
	})
	w := r.wire()
	w.call(1)
	w.say(1, false, "question")
	w.ping()
	// A ping and half of the headers are at hand at once.
	var b bytes.Buffer
	once := http2.NewFramer(&b, nil)
	w.ok(once.WritePing(false, [8]byte{9}))
	block := w.headers(":method", "POST", ":scheme", "http", ":path", method, ":authority", "weir", "content-type", "application/grpc")
	w.ok(once.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: block[:len(block)/2]}))
	w.write(b.Bytes())
	w.until("the ping is answered", func() bool { return len(w.pongs) == 2 })
	close(release)
	w.until("the other call is answered", func() bool { return len(w.stream(1).data) > 0 })
	w.ok(w.WriteContinuation(3, true, block[len(block)/2:]))
	w.say(3, true, "another")
	if got := messages(t, w.done(3).data); !slices.Equal(got, []string{"another"}) {
		t.Errorf("answer %q", got)
	}
}

func TestAfterTheServersEndLateDataIsIgnored(t *testing.T) {
	for name, open := range map[string]func(*Call) Receiver{
		"an error": func(*Call) Receiver {
			return receiver{receive: func([]byte) error { return status.Error(codes.Aborted, "enough") }}
		},
		"a panic":   func(*Call) Receiver { panic("ouch") },
		"no method": nil,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{}, open)
			w := r.wire()
			w.call(1)
			w.say(1, false, "question")
			st := w.done(1)
			w.until("the stream is reset", func() bool { return len(st.reset) > 0 })
			late := strings.Repeat("x", 16<<10-prefix)
			before := w.credit[0]
			for range connWindow / 4 / maxFrame {
				w.say(1, false, late)
			}
			w.say(1, true, "last")
			w.ok(w.WriteRSTStream(1, http2.ErrCodeCancel))
			w.settle()
			if diff := cmp.Diff([]http2.ErrCode{http2.ErrCodeNo}, st.reset); diff != "" {
				t.Errorf("resets:\n%s", diff)
			}
			if len(st.heads) != 1 || st.heads[0][":status"] != "200" {
				t.Errorf("headers %v", st.heads)
			}
			if w.credit[0]-before < connWindow/4 {
				t.Errorf("what was ignored takes room: %d came back", w.credit[0]-before)
			}
		})
	}
}

func TestAnswersThatAreNoCallsCarryOnlyHeaders(t *testing.T) {
	long := strings.Repeat("v", 3*maxFrame)
	r := newRig(t, Options{Plain: func(r *Request) { r.Reply(204, Header{"x-long", long}) }}, nil)
	w := r.wire()
	w.ok(w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: w.headers(
		":method", "GET", ":scheme", "http", ":path", "/", ":authority", "weir")}))
	st := w.done(1)
	w.settle()
	want := &answer{heads: []map[string]string{{":status": "204", "x-long": long}}, ended: true}
	if diff := cmp.Diff(want, st, cmp.AllowUnexported(answer{})); diff != "" {
		t.Error(diff)
	}
}
