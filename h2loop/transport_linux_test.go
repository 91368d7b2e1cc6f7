package h2loop

import (
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// processors has Go use so many for the time of a test.
func processors(t *testing.T, n int) {
	before := runtime.GOMAXPROCS(n)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

// pings sends messages one right after the other, until something is so.
func pings(t *testing.T, what string, so func() bool, calls ...talk) {
	t.Helper()
	n := 0
	for end := time.Now().Add(long); !so(); n++ {
		if time.Now().After(end) {
			t.Fatalf("after %d pings it is not so that %s", n, what)
		}
		ping(t, n, calls...)
	}
}

// ping sends a message in each call.
func ping(t *testing.T, n int, calls ...talk) {
	t.Helper()
	for _, x := range calls {
		if got, err := x.ask(strconv.Itoa(n)); err != nil || got != strconv.Itoa(n) {
			t.Fatalf("ping %d: %q, %v", n, got, err)
		}
	}
}

func waiting(n int32) func() bool { return func() bool { return threads.Load() == n } }

func TestAThreadWaitsWhereMessagesComeOneRightAfterTheOther(t *testing.T) {
	processors(t, 2)
	r := newRig(t, Options{}, echo)
	conn := r.grpc()
	x := r.call(t.Context(), conn)
	for range 3 {
		pings(t, "a thread waits", waiting(1), x)
		eventually(t, "the poller waits", waiting(0))
	}
	// In whichever way it waits, the end of the connection is noticed.
	pings(t, "a thread waits", waiting(1), x)
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no connection is left", func() bool {
		r.server.mu.Lock()
		defer r.server.mu.Unlock()
		return len(r.server.conns) == 0
	})
	if n := threads.Load(); n != 0 {
		t.Errorf("after the connection %d threads wait", n)
	}
}

func TestStopEndsWhateverWaits(t *testing.T) {
	processors(t, 2)
	for _, thread := range []bool{true, false} {
		r := newRig(t, Options{}, echo)
		x := r.call(t.Context(), r.grpc())
		pings(t, "a thread waits", waiting(1), x)
		if !thread {
			eventually(t, "the poller waits", waiting(0))
		}
		r.stop()
		if n := threads.Load(); n != 0 {
			t.Errorf("after Stop %d threads wait", n)
		}
	}
}

func TestOneProcessorIsLeftToOthers(t *testing.T) {
	for _, n := range []int{1, 2, 3} {
		processors(t, n)
		r := newRig(t, Options{}, echo)
		var calls []talk
		for range n + 1 {
			calls = append(calls, r.call(t.Context(), r.grpc()))
		}
		most := int32(n - 1) //nolint:gosec // few
		pings(t, "as many threads wait as may", waiting(most), calls...)
		for i := range 10 * often {
			ping(t, i, calls...)
			if got := threads.Load(); got > most {
				t.Fatalf("%d processors: %d threads wait", n, got)
			}
		}
		r.stop()
		if got := threads.Load(); got != 0 {
			t.Errorf("after Stop %d threads wait", got)
		}
	}
}

func TestNothingIsLostOnTheWay(t *testing.T) {
	processors(t, 2)
	r := newRig(t, Options{}, echo)
	x := r.call(t.Context(), r.grpc())
	n := 0
	for range 3 {
		for range 500 {
			ping(t, n, x)
			n++
		}
		time.Sleep(50 * time.Millisecond)
	}
	// Nor where nobody waits for the answer.
	for range 3 {
		for i := range 500 {
			if err := x.send([]byte(strconv.Itoa(i))); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 500 {
			if got, err := x.receive(); err != nil || string(got) != strconv.Itoa(i) {
				t.Fatalf("answer %d: %q, %v", i, got, err)
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestAClientThatTakesNothingIsLeftByAThread has a thread wait when the client takes no more.
func TestAClientThatTakesNothingIsLeftByAThread(t *testing.T) {
	processors(t, 2)
	e := newEvents()
	r := newRig(t, Options{}, flood(e), patience(100*time.Millisecond))
	w := r.wide()
	w.call(1)
	for end := time.Now().Add(long); threads.Load() == 0; {
		if time.Now().After(end) {
			t.Fatal("no thread waits")
		}
		before := len(w.stream(1).data)
		w.say(1, false, "ping")
		w.until("a ping is answered", func() bool { return len(w.stream(1).data) > before })
	}
	w.say(1, false, "flood")
	if diff := cmp.Diff([]string{"sent", "end the connection is gone"}, e.await(t, 2)); diff != "" {
		t.Error(diff)
	}
	eventually(t, "the poller waits", waiting(0))
}
