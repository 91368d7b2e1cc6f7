package storetest

import (
	"time"

	"github.com/weir-gateway/weir/ratelimit"
)

// windows tells how limits over time count.
func windows() []scenario {
	return []scenario{
		{"no two windows' worth at the edge", noDoubleAtTheEdge},
		{"a burst is the most in its own window", burstIsExact},
		{"refused leaves every counter", refusedLeavesAll},
		{"a large cost does not poison small ones", largeCostRefusedAlone},
		{"requests and tokens count apart", unitsApart},
		{"scopes count apart", scopesApart},
		{"the refusal names the limit to wait for", namesTheLimit},
		{"of equal waits the refusal names the first", namesTheFirst},
		{"sums stop at the most that can be counted", sumsStop},
		{"remaining moves with every admit", remainingMoves},
		{"raising a limit acts at once", raiseKeepsUsage},
		{"a refund is capacity of its own window", refundSameWindow},
		{"a refund is no capacity of a later window", refundLaterWindow},
		{"an overage is debt", overageIsDebt},
		{"a refused retry costs nothing", floodCostsNothing},
	}
}

func noDoubleAtTheEdge(f *fixture) {
	c := of(limit("qps", ratelimit.Requests, 10, time.Second), 1)
	f.clock.Advance(700 * time.Millisecond)
	for range 10 {
		f.mustAdmit(c)
	}
	// Fixed windows of one second would let ten more in at the next full one.
	f.clock.Advance(500 * time.Millisecond)
	d := f.mustRefuse(c)
	f.clock.Advance(d.RetryAfter - time.Millisecond)
	f.mustRefuse(c)
	f.clock.Advance(time.Millisecond)
	f.mustAdmit(c)
}

func burstIsExact(f *fixture) {
	l, err := ratelimit.NewBurstLimit("qps", ratelimit.Requests, 20, time.Second, 40)
	if err != nil {
		f.Fatal(err)
	}
	for range 40 {
		f.mustAdmit(of(l, 1))
	}
	f.clock.Advance(1900 * time.Millisecond)
	f.mustRefuse(of(l, 1))
	f.clock.Advance(300 * time.Millisecond)
	f.used(0, of(l, 1))
}

func refusedLeavesAll(f *fixture) {
	fits := of(limit("rpm", ratelimit.Requests, 10, time.Minute), 1)
	slot := of(limit("slots", ratelimit.Concurrency, 3, 0), 1)
	scarce := of(limit("tpm", ratelimit.Tokens, 100, time.Minute), 80)
	f.mustAdmit(fits, slot, scarce)
	d := f.mustRefuse(fits, slot, scarce)
	if d.Refused != 2 {
		f.Errorf("refused by charge %d, want 2", d.Refused)
	}
	f.used(1, fits, slot)
	f.used(80, scarce)
}

func largeCostRefusedAlone(f *fixture) {
	l := limit("tpm", ratelimit.Tokens, 100, time.Minute)
	if d := f.mustRefuse(of(l, 101)); !d.TooLarge || d.RetryAfter != 0 {
		f.Errorf("refused with %+v, want too large and no retry", d)
	}
	f.mustAdmit(of(l, 60))
	if d := f.mustRefuse(of(l, 90)); d.TooLarge {
		f.Errorf("refused with %+v, want it to fit later", d)
	}
	f.mustAdmit(of(l, 40))
}

func unitsApart(f *fixture) {
	requests := of(limit("key", ratelimit.Requests, 2, time.Minute), 1)
	for _, unit := range []ratelimit.Unit{ratelimit.Tokens, ratelimit.InputTokens, ratelimit.OutputTokens} {
		f.mustAdmit(of(limit("key", unit, 1000, time.Minute), 900))
	}
	f.mustAdmit(of(limit("key", ratelimit.Requests, 2, time.Hour), 2))
	f.used(0, requests)
	f.mustAdmit(requests)
	f.mustAdmit(requests)
	f.mustRefuse(requests)
}

func scopesApart(f *fixture) {
	l := limit("rpm", ratelimit.Requests, 1, time.Minute)
	for _, scope := range []string{"", "key:a", "key:b", "key:a/model:m"} {
		f.mustAdmit(ratelimit.Charge{Limit: l, Scope: scope, Cost: 1})
	}
	f.mustRefuse(of(l, 1))
}

func namesTheLimit(f *fixture) {
	second := of(limit("qps", ratelimit.Requests, 1, time.Second), 1)
	hour := of(limit("hour", ratelimit.Requests, 1, time.Hour), 1)
	minute := of(limit("rpm", ratelimit.Requests, 1, time.Minute), 1)
	roomy := of(limit("tpm", ratelimit.Tokens, 100, time.Minute), 1)
	f.mustAdmit(roomy, second, hour, minute)
	d := f.mustRefuse(roomy, second, hour, minute)
	if d.Refused != 2 || d.RetryAfter < 59*time.Minute {
		f.Errorf("refused by charge %d for %s, want 2 for an hour", d.Refused, d.RetryAfter)
	}
	roomy.Cost = 101
	if d := f.mustRefuse(second, hour, roomy); d.Refused != 2 || !d.TooLarge {
		f.Errorf("refused by %+v, want charge 2 to be too large", d)
	}
}

// namesTheFirst: in whatever order a store looks at scopes and units.
func namesTheFirst(f *fixture) {
	in := func(scope string, l *ratelimit.Limit, cost int64) ratelimit.Charge {
		return ratelimit.Charge{Limit: l, Scope: scope, Cost: cost}
	}
	roomy, slot := limit("roomy", ratelimit.Requests, 100, time.Minute), limit("slots", ratelimit.Concurrency, 9, 0)
	full := limit("full", ratelimit.Tokens, 10, time.Minute)
	ask := func(cost int64) []ratelimit.Charge {
		return []ratelimit.Charge{
			in("a", slot, 1), in("a", roomy, 1), in("b", slot, 1), in("b", full, cost), in("a", full, cost), in("c", full, cost),
		}
	}
	f.mustAdmit(ask(10)...)
	if d := f.mustRefuse(ask(1)...); d.Refused != 3 {
		f.Errorf("refused by charge %d, want 3", d.Refused)
	}
	if d := f.mustRefuse(ask(11)...); d.Refused != 3 || !d.TooLarge {
		f.Errorf("refused by %+v, want charge 3 to be too large", d)
	}
}

func sumsStop(f *fixture) {
	c := of(limit("tpm", ratelimit.Tokens, ratelimit.MaxAmount, time.Minute), ratelimit.MaxAmount-5)
	first, second := f.id(), f.id()
	f.admitAs(first, ratelimit.AdmitOptions{}, c)
	f.admitAs(second, ratelimit.AdmitOptions{Force: true}, c)
	f.used(ratelimit.MaxAmount, c)
	f.mustRefuse(of(c.Limit, 1))
	f.clock.Advance(5 * time.Second)
	f.used(ratelimit.MaxAmount, c)
	f.cancel(first)
	f.used(5, c)
	f.cancel(second) // of which no more than that was charged
	f.used(0, c)
}

func remainingMoves(f *fixture) {
	c := of(limit("rpm", ratelimit.Requests, 5, time.Minute), 1)
	for want := int64(4); want >= 0; want-- {
		_, d := f.admit(c)
		if !d.Admitted || d.States[0].Remaining != want {
			f.Fatalf("admit = %+v, want %d remaining", d, want)
		}
	}
	if got := f.mustRefuse(c).States[0]; got.Used != 5 || got.Remaining != 0 {
		f.Errorf("state of the refusal = %+v, want 5 used", got)
	}
}

func raiseKeepsUsage(f *fixture) {
	c := of(limit("rpm", ratelimit.Requests, 2, time.Minute), 1)
	raised := of(limit("rpm", ratelimit.Requests, 3, time.Minute), 1)
	f.mustAdmit(c)
	f.mustAdmit(c)
	f.mustRefuse(c)
	f.mustAdmit(raised)
	f.mustRefuse(raised)
	f.used(3, c, raised)
}

func refundSameWindow(f *fixture) {
	l := limit("tpm", ratelimit.Tokens, 100, time.Minute)
	id := f.mustAdmit(of(l, 100))
	f.clock.Advance(40 * time.Second)
	f.settle(id, 30) // delivered before the client went: not given back
	f.used(30, of(l, 0))
	f.mustAdmit(of(l, 70))
	f.mustRefuse(of(l, 1))
	// What is left of the charge leaves with the bucket that it was made in.
	f.clock.Advance(25 * time.Second)
	f.used(70, of(l, 0))
}

func refundLaterWindow(f *fixture) {
	l := limit("tpm", ratelimit.Tokens, 100, time.Minute)
	long := f.mustAdmit(of(l, 100))
	f.clock.Advance(70 * time.Second)
	f.mustAdmit(of(l, 50))
	f.settle(long, 0)
	f.used(50, of(l, 0))
	f.mustRefuse(of(l, 51))
}

func overageIsDebt(f *fixture) {
	l := limit("tpm", ratelimit.Tokens, 100, time.Minute)
	id := f.mustAdmit(of(l, 20))
	f.clock.Advance(30 * time.Second)
	f.settle(id, 250)
	if got := f.peek(of(l, 0)); got.Used != 250 || got.Remaining != 0 {
		f.Errorf("state in debt = %+v, want 250 used, 0 remaining", got)
	}
	// The debt is as old as the settle, not as the charge.
	f.clock.Advance(40 * time.Second)
	f.used(230, of(l, 0))
	d := f.mustRefuse(of(l, 1))
	f.clock.Advance(d.RetryAfter)
	f.mustAdmit(of(l, 100))
}

func floodCostsNothing(f *fixture) {
	c := of(limit("qps", ratelimit.Requests, 1, time.Second), 1)
	f.mustAdmit(c)
	wait := f.mustRefuse(c).RetryAfter
	for range 1000 {
		f.mustRefuse(c)
	}
	f.clock.Advance(wait)
	f.mustAdmit(c)
}
