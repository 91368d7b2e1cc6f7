package redisstore

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestOffsetIsNeverTooLate: whatever the network does, a deadline is converted to
// a time of the server that is not after it, nor earlier than the best round
// trip allows.
func TestOffsetIsNeverTooLate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := newOffset()
		ahead := time.Duration(rapid.Int64Range(-1e15, 1e15).Draw(t, "ahead"))
		now, best := o.start, time.Hour
		for range 20 {
			there := time.Duration(rapid.Int64Range(0, 1e8).Draw(t, "there"))
			back := time.Duration(rapid.Int64Range(0, 1e8).Draw(t, "back"))
			sent := now
			server := sent.Add(there).Sub(o.start) + ahead
			now = sent.Add(there + back)
			o.learn(server, sent, now)
			best = min(best, back)
			truth := now.Sub(o.start) + ahead
			got, known := o.server(now)
			if !known || got > truth || got < truth-best {
				t.Fatalf("server's time %s (known: %v), want up to %s, at most %s earlier", got, known, truth, best)
			}
		}
	})
}

func TestOffsetFollowsAClockThatIsBehind(t *testing.T) {
	o := newOffset()
	now := o.start
	o.learn(time.Hour, now, now)
	// Another server took over, by whose clock it is earlier.
	now = now.Add(time.Millisecond)
	o.learn(time.Minute, now, now.Add(time.Microsecond))
	if got, _ := o.server(now.Add(time.Microsecond)); got != time.Minute {
		t.Errorf("server's time %s, want %s", got, time.Minute)
	}
}

// TestOffsetForgets: clocks drift apart, so that an old sample is worth nothing.
func TestOffsetForgets(t *testing.T) {
	o := newOffset()
	for i := range 100 {
		at := o.start.Add(time.Duration(i) * time.Second)
		drift := -time.Duration(i) * time.Millisecond
		server := at.Sub(o.start) + drift
		o.learn(server, at.Add(-100*time.Millisecond), at)
		if got, _ := o.server(at); got-server > 25*time.Millisecond {
			t.Fatalf("after %d s the server's time is off by %s, want 25ms at most", i, got-server)
		}
	}
}
