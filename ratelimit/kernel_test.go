package ratelimit_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-gateway/weir/ratelimit"
)

// start is a store time as they are: far from zero, at no boundary.
const start = 56*365*24*time.Hour + 1234567*time.Microsecond

func newLimit(tb testing.TB, unit ratelimit.Unit, limit int64, window time.Duration) *ratelimit.Limit {
	tb.Helper()
	l, err := ratelimit.NewLimit("l", unit, limit, window)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// TestWindowHoldsAnyInterval: whatever the window's length, no closed interval
// of it holds more than the limit, and nothing counts for longer than B+1 steps.
func TestWindowHoldsAnyInterval(t *testing.T) {
	const limit = 20
	type event struct {
		at     time.Duration
		amount int64
	}
	rapid.Check(t, func(rt *rapid.T) {
		ms := rapid.OneOf(rapid.IntRange(1, 50), rapid.IntRange(50, 100_000)).Draw(rt, "window")
		l := newLimit(t, ratelimit.Tokens, limit, time.Duration(ms)*time.Millisecond)
		w, now := ratelimit.NewWindow(l), start
		var log []event
		for range 100 {
			now += time.Duration(rapid.Int64Range(0, int64(l.Window)/4).Draw(rt, "by"))
			cost := rapid.Int64Range(0, limit).Draw(rt, "cost")
			wait := w.Wait(now, limit, cost)
			if wait > time.Duration(l.Buckets()+1)*l.Step() {
				rt.Fatalf("wait of %s in a window of %s", wait, l.Window)
			}
			if wait == 0 {
				w.Charge(now, cost)
				log = append(log, event{now, cost})
			}
			sum := int64(0)
			for _, e := range log {
				if now-e.at <= l.Window {
					sum += e.amount
				}
			}
			if sum > limit {
				rt.Fatalf("%d in the window of %s up to %s", sum, l.Window, now)
			}
		}
	})
}

func TestWindowWait(t *testing.T) {
	l := newLimit(t, ratelimit.Tokens, 10, time.Second)
	w, now := ratelimit.NewWindow(l), start.Truncate(l.Step())
	w.Charge(now, 4)
	w.Charge(now+250*time.Millisecond, 5)
	now += 250 * time.Millisecond
	for cost, want := range map[int64]time.Duration{
		0: 0, 1: 0,
		2:  850 * time.Millisecond, // the bucket of the 4 ends its window at 1.1 s
		5:  850 * time.Millisecond,
		6:  1050 * time.Millisecond,
		10: 1050 * time.Millisecond,
	} {
		if got := w.Wait(now, 10, cost); got != want {
			t.Errorf("wait for %d = %s, want %s", cost, got, want)
		}
	}
	if got, want := w.Reset(now), 1050*time.Millisecond; got != want {
		t.Errorf("reset in %s, want %s", got, want)
	}
}

func TestWindowRefund(t *testing.T) {
	l := newLimit(t, ratelimit.Tokens, 100, time.Second)
	cases := []struct {
		name  string
		after time.Duration
		want  int64
	}{
		{"in the same bucket", 0, 50 - 30 + 7},
		{"in the last moment of the window", 1100*time.Millisecond - 1, 50 - 30 + 7},
		{"when the bucket has left", 1100 * time.Millisecond, 7},
		{"much later", time.Hour, 7},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			w, now := ratelimit.NewWindow(l), start.Truncate(l.Step())
			bucket := w.Charge(now, 50)
			now += tc.after
			w.Charge(now, 7)
			w.Refund(now, bucket, 30)
			if got := w.Used(now); got != tc.want {
				t.Errorf("used %d, want %d", got, tc.want)
			}
		})
	}
}

func TestWindowOutOfRange(t *testing.T) {
	l := newLimit(t, ratelimit.Tokens, 100, time.Second)
	w := ratelimit.NewWindow(l)
	w.Charge(start, ratelimit.MaxAmount-1)
	bucket := w.Charge(start, ratelimit.MaxAmount)
	if got := w.Used(start); got != ratelimit.MaxAmount {
		t.Errorf("sum of too much = %d, want %d", got, int64(ratelimit.MaxAmount))
	}
	w.Refund(start, bucket, ratelimit.MaxAmount)
	w.Refund(start, bucket, ratelimit.MaxAmount)
	if got := w.Used(start); got != 0 {
		t.Errorf("used %d after all was given back, want 0", got)
	}
}

// TestWindowRefundOfNoBucket: of one that is yet to come, there is nothing.
func TestWindowRefundOfNoBucket(t *testing.T) {
	l := newLimit(t, ratelimit.Tokens, 100, time.Second)
	w, now := ratelimit.NewWindow(l), start
	for range 2 * l.Buckets() {
		now += l.Step()
		bucket := w.Charge(now, 1)
		used := w.Used(now)
		w.Refund(now, bucket+1, 1)
		if got := w.Used(now); got != used {
			t.Fatalf("used %d, want %d", got, used)
		}
	}
}

// TestTimeBeforeTheHead: what slips backward counts as the newest bucket's time.
func TestTimeBeforeTheHead(t *testing.T) {
	l := newLimit(t, ratelimit.Tokens, 10, time.Second)
	w := ratelimit.NewWindow(l)
	w.Charge(start, 10)
	back := start - 150*time.Millisecond
	bucket := w.Charge(back, 0)
	w.Refund(back, bucket, 4)
	if got := w.Used(back); got != 6 {
		t.Errorf("used %d, want 6", got)
	}
	var leases ratelimit.Leases
	leases.Grant(start, ratelimit.ID{Seq: 1}, time.Second)
	leases.Grant(back, ratelimit.ID{Seq: 2}, time.Second)
	if got := leases.Live(start + time.Second - 1); got != 2 {
		t.Errorf("%d leases before the first expires, want 2", got)
	}
	if got := leases.Reset(start + time.Second - 1); got != 1 {
		t.Errorf("reset in %s, want 1ns", got)
	}
	if got := leases.Live(start + time.Second); got != 0 {
		t.Errorf("%d leases after both expired, want 0", got)
	}
}

func TestLeasesReuseSlots(t *testing.T) {
	var l ratelimit.Leases
	const ttl = time.Second
	one, two := ratelimit.ID{Seq: 1}, ratelimit.ID{Seq: 2}
	slot := l.Grant(start, one, ttl)
	l.Release(slot, two) // not its own
	if got := l.Live(start); got != 1 {
		t.Fatalf("%d live, want 1", got)
	}
	l.Release(slot, one)
	l.Release(slot, one)
	l.Release(slot, ratelimit.ID{}) // an unused slot is nobody's
	if again := l.Grant(start, two, ttl); again != slot {
		t.Errorf("slot %d after %d was released, want it used again", again, slot)
	}
	if l.Renew(start, slot, one, ttl) {
		t.Error("a released lease was renewed")
	}
	for _, slot := range []int64{-1, 0, 99} {
		l.Release(slot, two)
	}
	if got := l.Live(start); got != 1 {
		t.Errorf("%d live, want 1", got)
	}
}

func TestDecideOfNothing(t *testing.T) {
	l := newLimit(t, ratelimit.Tokens, 10, time.Second)
	charges := []ratelimit.Charge{{Limit: l, Cost: 10}, {Limit: newLimit(t, ratelimit.Concurrency, 1, 0), Cost: 1}}
	if d := ratelimit.Decide(start, charges, make([]*ratelimit.Tally, 2)); !d.Admitted || d.Refused != -1 {
		t.Errorf("decision on empty tallies = %+v, want admitted", d)
	}
	charges[0].Cost = 11
	if d := ratelimit.Decide(start, charges, make([]*ratelimit.Tally, 2)); d.Admitted || !d.TooLarge {
		t.Errorf("decision = %+v, want too large", d)
	}
}

func BenchmarkWindow(b *testing.B) {
	w, now := ratelimit.NewWindow(newLimit(b, ratelimit.Tokens, 1<<50, time.Second)), start
	b.ReportAllocs()
	for b.Loop() {
		now += 10 * time.Microsecond
		if w.Wait(now, 1<<50, 100) == 0 {
			w.Refund(now, w.Charge(now, 100), 40)
		}
	}
}

func BenchmarkLeases(b *testing.B) {
	var l ratelimit.Leases
	now, seq := start, uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		seq++
		now += 10 * time.Microsecond
		id := ratelimit.ID{Seq: seq}
		if l.Wait(now, 8) == 0 {
			l.Release(l.Grant(now, id, ratelimit.LeaseTTL), id)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	charges := make([]ratelimit.Charge, 10)
	tallies := make([]*ratelimit.Tally, 10)
	for i := range charges {
		l := newLimit(b, ratelimit.Tokens, 1<<50, time.Minute)
		tally := ratelimit.MakeTally(l)
		charges[i], tallies[i] = ratelimit.Charge{Limit: l, Cost: 1}, &tally
	}
	b.ReportAllocs()
	for b.Loop() {
		ratelimit.Decide(start, charges, tallies)
	}
}
