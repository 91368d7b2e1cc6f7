package storetest

import (
	"context"
	"errors"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-gateway/weir/ratelimit"
)

// exchanges tells what repeated, late and wrong calls do.
func exchanges() []scenario {
	return []scenario{
		{"an admit again charges nothing", admitAgain},
		{"an admit again after the end charges nothing", admitAfterEnd},
		{"a refused ID is decided anew", refusedAgain},
		{"only the first end counts", endsOnce},
		{"an unknown ID is a no-op", unknownID},
		{"an unknown truth leaves the reservation", settleUnknownTruth},
		{"cancel gives all back", cancelGivesBack},
		{"an admit that its cancel overtook charges nothing", cancelOvertakes},
		{"the client's end keeps nothing", endOnDeadContext},
		{"not after the caller gave up", notAfter},
		{"force admits beyond limits", force},
		{"scratch for states is reused", scratch},
		{"no charges is no limit", noCharges},
		{"wrong charges change nothing", wrongCharges},
		{"wrong amounts change nothing", wrongAmounts},
		{"a forgotten receipt leaves its charge", receiptForgotten},
		{"nothing is left after the longest time to live", nothingLeft},
	}
}

// pair is a request limit and a slot, as charges of one exchange.
func pair() (requests, slot ratelimit.Charge) {
	return of(limit("rph", ratelimit.Requests, 10, time.Hour), 1), slots(10)
}

func admitAgain(f *fixture) {
	requests, slot := pair()
	id := f.mustAdmit(requests, slot)
	d := f.admitAs(id, ratelimit.AdmitOptions{}, requests, slot)
	if !d.Admitted || d.States[0].Used != 1 || d.States[1].Used != 1 {
		f.Errorf("admit again = %+v, want 1 used of each", d)
	}
	f.settle(id, 0, 0)
	f.used(0, requests, slot)
}

func admitAfterEnd(f *fixture) {
	requests, slot := pair()
	settled, canceled := f.mustAdmit(requests, slot), f.mustAdmit(requests, slot)
	f.settle(settled, 1, 0)
	f.cancel(canceled)
	for _, id := range []ratelimit.ID{settled, canceled} {
		if d := f.admitAs(id, ratelimit.AdmitOptions{}, requests, slot); !d.Admitted {
			f.Errorf("admit again after the end = %+v, want the first answer", d)
		}
	}
	f.used(1, requests)
	f.used(0, slot)
}

func refusedAgain(f *fixture) {
	c := slots(1)
	holder := f.mustAdmit(c)
	id, d := f.admit(c)
	if d.Admitted {
		f.Fatalf("admit = %+v, want it refused", d)
	}
	f.settle(id, 0) // holds nothing
	f.used(1, c)
	f.settle(holder, 0)
	if d := f.admitAs(id, ratelimit.AdmitOptions{}, c); !d.Admitted {
		f.Errorf("admit of a refused ID = %+v, want it admitted now", d)
	}
}

func endsOnce(f *fixture) {
	c := of(limit("tpm", ratelimit.Tokens, 100, time.Minute), 50)
	settled, canceled := f.mustAdmit(c), f.mustAdmit(c)
	f.settle(settled, 40)
	f.settle(settled, 10)
	f.cancel(settled)
	f.used(90, c)
	f.cancel(canceled)
	f.cancel(canceled)
	f.settle(canceled, 50)
	f.used(40, c)
}

func unknownID(f *fixture) {
	c := slots(1)
	f.mustAdmit(c)
	f.settle(f.id(), 5)
	f.cancel(f.id())
	f.used(1, c)
}

func settleUnknownTruth(f *fixture) {
	c := of(limit("tpm", ratelimit.Tokens, 100, time.Minute), 50)
	slot := slots(1)
	id := f.mustAdmit(c, slot)
	if err := f.store.Settle(f.Context(), id, nil); err != nil {
		f.Fatal(err)
	}
	f.used(50, c)
	f.used(0, slot)
}

func cancelGivesBack(f *fixture) {
	requests, slot := pair()
	f.cancel(f.mustAdmit(requests, slot))
	f.used(0, requests, slot)
}

func cancelOvertakes(f *fixture) {
	requests, slot := pair()
	id := f.id()
	f.cancel(id)
	f.clock.Advance(ratelimit.TombstoneTTL - time.Millisecond)
	f.admitAs(id, ratelimit.AdmitOptions{}, requests, slot)
	f.used(0, requests, slot)
	f.clock.Advance(time.Millisecond)
	f.admitAs(id, ratelimit.AdmitOptions{}, requests, slot)
	f.used(1, requests, slot)
}

func endOnDeadContext(f *fixture) {
	requests, slot := pair()
	settled, canceled := f.mustAdmit(requests, slot), f.mustAdmit(requests, slot)
	if err := f.store.Settle(f.canceled(), settled, []int64{1, 0}); err != nil {
		f.Error(err)
	}
	if err := f.store.Cancel(f.canceled(), canceled); err != nil {
		f.Error(err)
	}
	f.used(0, slot)
	if d, err := f.store.Admit(f.canceled(), f.id(), []ratelimit.Charge{slot}, ratelimit.AdmitOptions{}); !errors.Is(err, context.Canceled) {
		f.Errorf("Admit for a client that has gone = %+v, error %v, want %v", d, err, context.Canceled)
	}
	f.used(0, slot)
}

func notAfter(f *fixture) {
	c := slots(2)
	opts := ratelimit.AdmitOptions{NotAfter: f.clock.Now().Add(time.Second)}
	f.clock.Advance(time.Second)
	f.admitAs(f.id(), opts, c)
	f.clock.Advance(time.Millisecond)
	if _, err := f.store.Admit(f.Context(), f.id(), []ratelimit.Charge{c}, opts); !errors.Is(err, ratelimit.ErrTooLate) {
		f.Errorf("Admit after its deadline = error %v, want %v", err, ratelimit.ErrTooLate)
	}
	f.used(1, c)
}

func force(f *fixture) {
	tokens := of(limit("tpm", ratelimit.Tokens, 100, time.Minute), 150)
	slot := slots(1)
	f.mustAdmit(slot)
	id := f.id()
	if d := f.admitAs(id, ratelimit.AdmitOptions{Force: true}, tokens, slot); !d.Admitted {
		f.Fatalf("forced admit = %+v, want it admitted", d)
	}
	f.used(150, tokens)
	f.used(2, slot)
	f.settle(id, 20, 0)
	f.used(20, tokens)
	f.used(1, slot)
}

func scratch(f *fixture) {
	requests, slot := pair()
	buf := make([]ratelimit.State, 1, 8)
	d := f.admitAs(f.id(), ratelimit.AdmitOptions{States: buf}, requests, slot)
	if len(d.States) != 2 || &d.States[0] != &buf[0] {
		f.Errorf("states = %v, want two in the array given", d.States)
	}
}

func noCharges(f *fixture) {
	id := f.mustAdmit()
	f.renew([]ratelimit.ID{id})
	f.settle(id)
	f.mustAdmit()
}

func wrongCharges(f *fixture) {
	requests, slot := pair()
	for name, wrong := range map[string]ratelimit.Charge{
		"no limit":   {Scope: "key:a", Cost: 1},
		"negative":   of(limit("tpm", ratelimit.Tokens, 10, time.Minute), -1),
		"twice":      requests,
		"two slots":  of(limit("other", ratelimit.Concurrency, 5, 0), 2),
		"overflow":   of(limit("tpm", ratelimit.Tokens, 10, time.Minute), ratelimit.MaxAmount+1),
		"zero slots": of(limit("other", ratelimit.Concurrency, 5, 0), 0),
	} {
		d, err := f.store.Admit(f.Context(), f.id(), []ratelimit.Charge{requests, slot, wrong}, ratelimit.AdmitOptions{})
		if err == nil {
			f.Errorf("%s: Admit = %+v, want an error", name, d)
		}
	}
	f.used(0, requests, slot)
}

func wrongAmounts(f *fixture) {
	requests, slot := pair()
	id := f.mustAdmit(requests, slot)
	for _, wrong := range [][]int64{{1}, {1, 0, 0}, {-1, 0}} {
		if err := f.store.Settle(f.Context(), id, wrong); err == nil {
			f.Errorf("Settle(%v) = nil, want an error", wrong)
		}
	}
	f.used(1, requests, slot)
	f.settle(id, 1, 0)
	f.used(0, slot)
}

func receiptForgotten(f *fixture) {
	requests, slot := pair()
	dead := f.mustAdmit(requests, slot)
	f.clock.Advance(ratelimit.ReceiptTTL)
	f.cancel(dead)
	f.used(1, requests)
	f.used(0, slot)
}

func nothingLeft(f *fixture) {
	requests, slot := pair()
	f.mustAdmit(requests, slot)
	f.settle(f.mustAdmit(requests, slot), 5, 0)
	f.cancel(f.mustAdmit(requests, slot))
	f.clock.Advance(requests.Limit.Window + requests.Limit.Step())
	for _, c := range []ratelimit.Charge{requests, slot} {
		want := ratelimit.State{Remaining: c.Limit.Max}
		if diff := cmp.Diff(want, f.peek(c)); diff != "" {
			f.Errorf("limit %v (-want +got):\n%s", c.Limit, diff)
		}
	}
	if r, ok := f.store.(Residue); ok && r.Residue(f.T) != 0 {
		f.Errorf("%d things are left, want none", r.Residue(f.T))
	}
}
