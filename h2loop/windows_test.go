package h2loop

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

func TestWindowsHoldAnswersBack(t *testing.T) {
	r := newRig(t, Options{}, echo)
	initial := func(n uint32) http2.Setting { return http2.Setting{ID: http2.SettingInitialWindowSize, Val: n} }
	w := r.wire(initial(0))
	w.call(1)
	text := strings.Repeat("0123456789", 20)
	w.say(1, true, text)
	want := 0
	holds := func(what string, more int) {
		t.Helper()
		w.settle()
		if want += more; len(w.stream(1).data) != want || w.stream(1).ended {
			t.Errorf("%s: %d bytes have come, ended %v; want %d", what, len(w.stream(1).data), w.stream(1).ended, want)
		}
	}
	holds("no window", 0)
	w.ok(w.WriteWindowUpdate(1, 10))
	holds("a window of 10", 10)
	w.ok(w.WriteSettings(initial(50)))
	holds("an initial window that grows to 50", 50)
	w.ok(w.WriteSettings(initial(20)))
	holds("an initial window that shrinks to 20", 0)
	w.ok(w.WriteWindowUpdate(1, 30))
	holds("0 after a deficit", 0)
	w.ok(w.WriteWindowUpdate(1, 5))
	holds("5 more", 5)
	w.ok(w.WriteWindowUpdate(3, 1000))
	w.ok(w.WriteWindowUpdate(0, 1000))
	holds("room elsewhere", 0)
	w.call(3) // with the initial window of now
	w.say(3, true, text)
	w.settle()
	if got := len(w.stream(3).data); got != 20 {
		t.Errorf("on a new stream %d bytes have come, want 20", got)
	}
	w.ok(w.WriteWindowUpdate(1, 1000))
	if got := messages(t, w.done(1).data); !slices.Equal(got, []string{text}) {
		t.Errorf("in the end: %q", got)
	}
	w.ok(w.WriteWindowUpdate(3, 1000))
	if got := messages(t, w.done(3).data); !slices.Equal(got, []string{text}) {
		t.Errorf("in the end, the other: %q", got)
	}
}

func TestTheWindowOfTheConnectionHoldsAnswersBack(t *testing.T) {
	r := newRig(t, Options{}, echo)
	w := r.wire(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	text := strings.Repeat("x", 40_000)
	for _, id := range []uint32{1, 3} {
		w.call(id)
		for rest := frame(text); len(rest) > 0; {
			n := min(len(rest), maxFrame)
			w.ok(w.WriteData(id, n == len(rest), rest[:n]))
			rest = rest[n:]
		}
	}
	came := func() int { return len(w.stream(1).data) + len(w.stream(3).data) }
	w.settle()
	if came() != initialWindow || !w.stream(1).ended || w.stream(3).ended {
		t.Errorf("%d bytes have come, want %d", came(), initialWindow)
	}
	w.ok(w.WriteWindowUpdate(0, 1))
	w.settle()
	if came() != initialWindow+1 {
		t.Errorf("%d bytes have come, want one more", came())
	}
	// A call that nobody waits for any longer takes nothing of it.
	w.ok(w.WriteRSTStream(3, http2.ErrCodeCancel))
	w.ok(w.WriteWindowUpdate(0, 100))
	w.call(5)
	w.say(5, true, "another")
	if got := messages(t, w.done(5).data); !slices.Equal(got, []string{"another"}) {
		t.Errorf("another: %q", got)
	}
	if came() != initialWindow+1 {
		t.Errorf("%d bytes have come of two calls, one of them reset", came())
	}
}

func TestAnErrorWaitsForTheMessagesBeforeIt(t *testing.T) {
	r := newRig(t, Options{}, func(c *Call) Receiver {
		return receiver{receive: func(b []byte) error {
			_ = c.Send(message(b))
			return status.Error(codes.Aborted, "enough")
		}}
	})
	w := r.wire(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 3})
	w.call(1)
	w.say(1, false, "question")
	w.settle()
	if st := w.stream(1); len(st.data) != 3 || st.ended || len(st.reset) > 0 {
		t.Errorf("at first: %+v", st)
	}
	w.ok(w.WriteWindowUpdate(1, 1000))
	st := w.done(1)
	w.settle()
	if got := messages(t, st.data); !slices.Equal(got, []string{"question"}) || st.heads[1]["grpc-status"] != "10" {
		t.Errorf("in the end: %+v", st)
	}
	if diff := cmp.Diff([]http2.ErrCode{http2.ErrCodeNo}, st.reset); diff != "" {
		t.Error(diff)
	}
}

// TestWindowsOfTheServerOpen sends more than there is room for at first, and no more than the server
// has made room for.
func TestWindowsOfTheServerOpen(t *testing.T) {
	const size, rounds = 16<<10 - prefix, 1500 // more than 23 MiB
	took := 0
	r := newRig(t, Options{}, func(c *Call) Receiver {
		return receiver{
			receive: func(b []byte) error {
				took += len(b)
				return nil
			},
			end: func(error) { _ = c.Send(message(fmt.Append(nil, took))) },
		}
	})
	w := r.wire()
	w.call(1)
	text := strings.Repeat("x", size)
	sent := 0
	for i := range rounds {
		w.until("there is room for more", func() bool {
			return sent+maxFrame <= w.initial+w.credit[1] && sent+maxFrame <= initialWindow+w.credit[0]
		})
		w.say(1, i == rounds-1, text)
		sent += maxFrame
	}
	if got := messages(t, w.done(1).data); !slices.Equal(got, []string{fmt.Sprint(size * rounds)}) {
		t.Errorf("%q bytes were taken", got)
	}
}

// flood is a call that sends until it cannot.
func flood(e *events) func(*Call) Receiver {
	return func(c *Call) Receiver {
		return receiver{
			receive: func(b []byte) error {
				if string(b) != "flood" {
					return c.Send(message(b))
				}
				m := message(make([]byte, 8<<20))
				sendAll(c, m)
				e.add("sent")
				return nil
			},
			end: func(err error) { e.add("end %v", err) },
		}
	}
}

// sendAll sends a message until that fails.
func sendAll(c *Call, m proto.Message) {
	for more := true; more; {
		more = c.Send(m) == nil
	}
}

// wide is a connection on which the server may send as much as it likes.
func (r *rig) wide() *wire {
	r.t.Helper()
	w := r.wire(http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow})
	w.ok(w.WriteWindowUpdate(0, maxWindow-initialWindow))
	w.settle()
	return w
}

func TestAClientThatTakesNothingIsLeft(t *testing.T) {
	e := newEvents()
	r := newRig(t, Options{}, flood(e), patience(100*time.Millisecond))
	w := r.wide()
	w.call(1)
	w.say(1, false, "flood")
	if diff := cmp.Diff([]string{"sent", "end the connection is gone"}, e.await(t, 2)); diff != "" {
		t.Error(diff)
	}
	eventually(t, "no connection is left", func() bool {
		r.server.mu.Lock()
		defer r.server.mu.Unlock()
		return len(r.server.conns) == 0
	})
}

func TestStopDoesNotWaitForAClientThatTakesNothing(t *testing.T) {
	e := newEvents()
	r := newRig(t, Options{}, flood(e), patience(time.Hour))
	w := r.wide()
	w.call(1)
	w.say(1, false, "flood")
	r.stop()
	if got := e.all(); len(got) > 2 || len(got) > 0 && !slices.Contains(got, "end the connection is gone") {
		t.Errorf("events %q", got)
	}
}
