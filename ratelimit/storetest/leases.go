package storetest

import (
	"time"

	"github.com/weir-gateway/weir/ratelimit"
)

// leases tells how concurrency limits count.
func leases() []scenario {
	return []scenario{
		{"a slot is free once its exchange ends", slotsComeBack},
		{"a slot dies with its process", slotExpires},
		{"a renewed slot lives", slotRenewed},
		{"a lost slot is put back by force", slotPutBack},
		{"a late end does not free another's slot", lateReleaseIsNoOp},
		{"a set that was empty still expires", emptySetExpires},
		{"a refusal waits for the lease that ends next", waitForNextLease},
		{"an ended exchange is not put back", endedIsNotPutBack},
		{"renew of an unknown exchange", renewUnknown},
	}
}

func slots(n int64) ratelimit.Charge {
	return of(limit("slots", ratelimit.Concurrency, n, 0), 1)
}

func slotsComeBack(f *fixture) {
	c := slots(2)
	settled, canceled := f.mustAdmit(c), f.mustAdmit(c)
	f.mustRefuse(c)
	f.settle(settled, 0)
	f.mustAdmit(c)
	f.mustRefuse(c)
	f.cancel(canceled)
	f.mustAdmit(c)
	f.used(2, c)
}

func slotExpires(f *fixture) {
	c := slots(1)
	f.mustAdmit(c)
	f.clock.Advance(ratelimit.LeaseTTL - time.Millisecond)
	f.mustRefuse(c)
	f.clock.Advance(time.Millisecond)
	f.used(0, c)
	f.mustAdmit(c)
}

func slotRenewed(f *fixture) {
	c := slots(1)
	id := f.mustAdmit(c)
	// An hour-long stream outlives the time to live of its receipt, too.
	for range 360 {
		f.clock.Advance(10 * time.Second)
		f.renew([]ratelimit.ID{id})
		f.mustRefuse(c)
	}
	f.settle(id, 0)
	f.used(0, c)
}

func slotPutBack(f *fixture) {
	c := slots(1)
	id := f.mustAdmit(c)
	f.clock.Advance(ratelimit.LeaseTTL)
	other := f.mustAdmit(c)
	f.renew([]ratelimit.ID{id, other}, id)
	f.used(2, c) // the truth, though beyond the cap
	f.settle(other, 0)
	f.mustRefuse(c)
	f.settle(id, 0)
	f.used(0, c)
}

func lateReleaseIsNoOp(f *fixture) {
	c := slots(1)
	dead := f.mustAdmit(c)
	f.clock.Advance(ratelimit.LeaseTTL)
	f.mustAdmit(c)
	f.settle(dead, 0)
	f.used(1, c)
	f.mustRefuse(c)
}

func emptySetExpires(f *fixture) {
	c := slots(1)
	f.settle(f.mustAdmit(c), 0)
	f.used(0, c)
	f.mustAdmit(c)
	f.clock.Advance(ratelimit.LeaseTTL)
	f.used(0, c)
}

func waitForNextLease(f *fixture) {
	c := slots(2)
	first := f.mustAdmit(c)
	f.clock.Advance(10 * time.Second)
	f.mustAdmit(c)
	if d := f.mustRefuse(c); d.RetryAfter != ratelimit.LeaseTTL-10*time.Second {
		f.Errorf("retry after %s, want when the first lease ends", d.RetryAfter)
	}
	f.renew([]ratelimit.ID{first})
	d := f.mustRefuse(c)
	if d.RetryAfter != ratelimit.LeaseTTL {
		f.Errorf("retry after %s, want when the second lease ends", d.RetryAfter)
	}
	f.clock.Advance(d.RetryAfter)
	f.mustAdmit(c)
}

func endedIsNotPutBack(f *fixture) {
	c := slots(1)
	settled := f.mustAdmit(c)
	f.settle(settled, 0)
	canceled := f.mustAdmit(c)
	f.cancel(canceled)
	f.renew([]ratelimit.ID{settled, canceled})
	f.used(0, c)
}

func renewUnknown(f *fixture) {
	unknown := f.id()
	f.renew([]ratelimit.ID{unknown}, unknown)
	f.renew(nil)
}
