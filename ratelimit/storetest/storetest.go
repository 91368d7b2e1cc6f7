// Package storetest is the one definition of what a ratelimit store does. Every
// implementation runs it:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, 100_000, func(t *testing.T, clock *storetest.Clock) ratelimit.Store {
//			return memstore.New(memstore.Options{Clock: clock.Now})
//		})
//	}
//
// It has three parts: scenarios, each named by what must hold; goroutines that
// contend for one limit; and random histories, in which every answer and every
// counter must equal those of a model that keeps a plain log of all charges.
package storetest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-gateway/weir/ratelimit"
)

// Factory makes an empty store that reads the given clock. It is called many
// times in one test; t.Cleanup may close what it opened.
type Factory func(t *testing.T, clock *Clock) ratelimit.Store

// Residue is implemented by stores that can count what they hold: states,
// leases, receipts, tombstones. It must be 0 once all have expired.
type Residue interface {
	Residue(t *testing.T) int
}

// Run tests the stores that the factory makes, with random histories of so many
// steps in all: a tenth in short mode, and what WEIR_STORETEST_STEPS says if set.
func Run(t *testing.T, steps int, factory Factory) {
	t.Helper()
	for _, group := range [][]scenario{windows(), leases(), exchanges(), clocks(), resets(), calendars(), shadows()} {
		for _, s := range group {
			t.Run(s.name, func(t *testing.T) {
				clock := NewClock()
				s.run(&fixture{T: t, store: factory(t, clock), clock: clock})
			})
		}
	}
	t.Run("contention", func(t *testing.T) { contend(t, factory) })
	t.Run("histories", func(t *testing.T) { histories(t, steps, factory) })
}

// Clock is a clock that only moves when told to. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that stands at no boundary of any bucket.
func NewClock() *Clock {
	return &Clock{now: time.Date(2026, time.March, 1, 10, 7, 3, 141e6, time.UTC)}
}

// Now reads the clock.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock; back, if d is negative.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// scenario is one thing that must hold.
type scenario struct {
	name string
	run  func(f *fixture)
}

// fixture is a store with the calls that scenarios are made of. Each fails the
// test when the store returns an error.
type fixture struct {
	*testing.T
	store ratelimit.Store
	clock *Clock
	seq   uint64
}

func (f *fixture) id() ratelimit.ID {
	f.seq++
	return ratelimit.ID{Instance: 7, Seq: f.seq}
}

// admit decides under a new ID.
func (f *fixture) admit(charges ...ratelimit.Charge) (ratelimit.ID, ratelimit.Decision) {
	f.Helper()
	id := f.id()
	return id, f.admitAs(id, ratelimit.AdmitOptions{}, charges...)
}

func (f *fixture) admitAs(id ratelimit.ID, opts ratelimit.AdmitOptions, charges ...ratelimit.Charge) ratelimit.Decision {
	f.Helper()
	d, err := f.store.Admit(f.Context(), id, charges, opts)
	if err != nil {
		f.Fatalf("Admit(%v, %v) = error %v", id, charges, err)
	}
	if err := checkDecision(d, charges); err != nil {
		f.Fatalf("Admit(%v, %v) = %+v: %v", id, charges, d, err)
	}
	return d
}

func (f *fixture) mustAdmit(charges ...ratelimit.Charge) ratelimit.ID {
	f.Helper()
	id, d := f.admit(charges...)
	if !d.Admitted {
		f.Fatalf("Admit(%v) = %+v, want it admitted", charges, d)
	}
	return id
}

func (f *fixture) mustRefuse(charges ...ratelimit.Charge) ratelimit.Decision {
	f.Helper()
	_, d := f.admit(charges...)
	if d.Admitted {
		f.Fatalf("Admit(%v) = %+v, want it refused", charges, d)
	}
	return d
}

func (f *fixture) settle(id ratelimit.ID, actual ...int64) {
	f.Helper()
	if err := f.store.Settle(f.Context(), id, actual); err != nil {
		f.Fatalf("Settle(%v, %v) = error %v", id, actual, err)
	}
}

func (f *fixture) cancel(id ratelimit.ID) {
	f.Helper()
	if err := f.store.Cancel(f.Context(), id); err != nil {
		f.Fatalf("Cancel(%v) = error %v", id, err)
	}
}

// renew fails unless exactly the IDs of lost are lost.
func (f *fixture) renew(ids []ratelimit.ID, lost ...ratelimit.ID) {
	f.Helper()
	got, err := f.store.Renew(f.Context(), ids)
	if err != nil {
		f.Fatalf("Renew(%v) = error %v", ids, err)
	}
	if diff := cmp.Diff(lost, got); diff != "" {
		f.Fatalf("Renew(%v) lost (-want +got):\n%s", ids, diff)
	}
}

func (f *fixture) peek(c ratelimit.Charge) ratelimit.State {
	f.Helper()
	states, err := f.store.Peek(f.Context(), []ratelimit.Charge{c})
	if err != nil || len(states) != 1 {
		f.Fatalf("Peek(%v) = %v, error %v, want one state", c, states, err)
	}
	return states[0]
}

// used fails unless so much is used of each charge's limit.
func (f *fixture) used(want int64, charges ...ratelimit.Charge) {
	f.Helper()
	for _, c := range charges {
		if got := f.peek(c); got.Used != want {
			f.Fatalf("limit %v of scope %q = %+v, want %d used", c.Limit, c.Scope, got, want)
		}
	}
}

// canceled is a context of a client that has gone.
func (f *fixture) canceled() context.Context {
	ctx, cancel := context.WithCancel(f.Context())
	cancel()
	return ctx
}

// limit builds a limit that is right.
func limit(name string, unit ratelimit.Unit, n int64, window time.Duration) *ratelimit.Limit {
	l, err := ratelimit.NewLimit(name, unit, n, window)
	if err != nil {
		panic(err)
	}
	return l
}

// of is a charge in the scope "key:a".
func of(l *ratelimit.Limit, cost int64) ratelimit.Charge {
	return ratelimit.Charge{Limit: l, Scope: "key:a", Cost: cost}
}
