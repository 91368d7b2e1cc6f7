package storetest

import (
	"time"

	"github.com/weir-gateway/weir/ratelimit"
)

// clocks tells what happens when the clock is set back, by less than a bucket
// and by far.
func clocks() []scenario {
	all := []scenario{{"a bucket begun before the clock was set back", bucketSetBack}}
	for _, step := range []time.Duration{3 * time.Millisecond, 700 * time.Millisecond, time.Hour} {
		all = append(all,
			scenario{"window, clock set back by " + step.String(), func(f *fixture) { windowSetBack(f, step) }},
			scenario{"lease, clock set back by " + step.String(), func(f *fixture) { leaseSetBack(f, step) }},
			scenario{"refund, clock set back by " + step.String(), func(f *fixture) { refundSetBack(f, step) }},
		)
	}
	return all
}

// windowSetBack: nothing leaves early, and all has left a window later.
func windowSetBack(f *fixture, step time.Duration) {
	c := of(limit("qps", ratelimit.Requests, 3, time.Second), 1)
	f.mustAdmit(c)
	f.clock.Advance(500 * time.Millisecond)
	f.mustAdmit(c)
	f.clock.Advance(-step)
	f.used(2, c)
	f.mustAdmit(c)
	wait := f.mustRefuse(c).RetryAfter
	f.clock.Advance(499 * time.Millisecond)
	f.used(3, c) // the first is not a second old yet
	f.clock.Advance(wait - 499*time.Millisecond)
	f.mustAdmit(c)
	f.clock.Advance(1100 * time.Millisecond)
	f.used(0, c)
}

// bucketSetBack: where a clock that is set back by a little goes unnoticed, all
// counts in the newest bucket, and is refunded there.
func bucketSetBack(f *fixture) {
	l := limit("tps", ratelimit.Tokens, 100, time.Second)
	f.mustAdmit(of(l, 1))
	f.clock.Advance(70 * time.Millisecond) // from .141 into the next bucket
	f.mustAdmit(of(l, 40))
	f.clock.Advance(-50 * time.Millisecond)
	id := f.mustAdmit(of(l, 59))
	f.mustRefuse(of(l, 1))
	f.settle(id, 9)
	f.used(50, of(l, 0))
	f.clock.Advance(980 * time.Millisecond)
	f.used(50, of(l, 0)) // the bucket of .141 leaves at 1.2
}

func leaseSetBack(f *fixture, step time.Duration) {
	c := slots(1)
	f.mustAdmit(c)
	f.clock.Advance(ratelimit.LeaseTTL / 2)
	f.used(1, c)
	f.clock.Advance(-step)
	f.mustRefuse(c)
	f.clock.Advance(ratelimit.LeaseTTL/2 - time.Millisecond)
	f.used(1, c)
	f.clock.Advance(2 * time.Millisecond)
	f.used(0, c)
}

// refundSetBack: a refund still finds its bucket.
func refundSetBack(f *fixture, step time.Duration) {
	l := limit("tps", ratelimit.Tokens, 100, time.Second)
	id := f.mustAdmit(of(l, 60))
	f.clock.Advance(500 * time.Millisecond)
	f.mustAdmit(of(l, 10))
	f.clock.Advance(-step)
	f.settle(id, 5)
	f.used(15, of(l, 0))
}
