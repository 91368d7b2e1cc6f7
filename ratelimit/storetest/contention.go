package storetest

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-gateway/weir/ratelimit"
)

// contend lets goroutines race for what must not be given twice.
func contend(t *testing.T, factory Factory) {
	t.Helper()
	cases := []struct {
		name       string
		limit      *ratelimit.Limit
		goroutines int
		want       int64
	}{
		{"200 at 50 a minute", limit("rpm", ratelimit.Requests, 50, time.Minute), 200, 50},
		{"20 at a cap of 5", limit("slots", ratelimit.Concurrency, 5, 0), 20, 5},
		{"2000 at 100 a minute", limit("rpm", ratelimit.Requests, 100, time.Minute), 2000, 100},
		{"2000 at a cap of 50", limit("slots", ratelimit.Concurrency, 50, 0), 2000, 50},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			clock := NewClock()
			store := factory(t, clock)
			roomy := of(limit("tpm", ratelimit.Tokens, 1e9, time.Minute), 10)
			var admitted atomic.Int64
			parallel(tc.goroutines, func(i int) {
				id := ratelimit.ID{Instance: 1, Seq: uint64(i)}
				d, err := store.Admit(t.Context(), id, []ratelimit.Charge{roomy, of(tc.limit, 1)}, ratelimit.AdmitOptions{})
				if err != nil {
					t.Errorf("Admit = error %v", err)
				}
				if d.Admitted {
					admitted.Add(1)
				}
			})
			if got := admitted.Load(); got != tc.want {
				t.Errorf("admitted %d of %d, want %d", got, tc.goroutines, tc.want)
			}
			f := &fixture{T: t, store: store, clock: clock}
			f.used(tc.want, of(tc.limit, 0))
			f.used(tc.want*10, roomy)
		})
	}
	t.Run("the same ID from many", func(t *testing.T) { sameID(t, factory) })
	t.Run("churn leaks nothing", func(t *testing.T) { churn(t, factory) })
}

// sameID: of calls that race on one ID, one counts.
func sameID(t *testing.T, factory Factory) {
	t.Helper()
	clock := NewClock()
	f := &fixture{T: t, store: factory(t, clock), clock: clock}
	requests, slot := pair()
	id := f.id()
	parallel(32, func(int) {
		d, err := f.store.Admit(t.Context(), id, []ratelimit.Charge{requests, slot}, ratelimit.AdmitOptions{})
		if err != nil || !d.Admitted {
			t.Errorf("Admit = %+v, error %v, want it admitted", d, err)
		}
	})
	f.used(1, requests, slot)
	parallel(32, func(int) {
		if err := f.store.Settle(t.Context(), id, []int64{5, 0}); err != nil {
			t.Errorf("Settle = error %v", err)
		}
	})
	f.used(5, requests)
	f.used(0, slot)
}

// churn: the cap holds at every moment, and in the end no slot is held.
func churn(t *testing.T, factory Factory) {
	t.Helper()
	const limitOf, goroutines, rounds = 8, 32, 200
	clock := NewClock()
	f := &fixture{T: t, store: factory(t, clock), clock: clock}
	slot := slots(limitOf)
	other := ratelimit.Charge{Limit: slot.Limit, Scope: "key:b", Cost: 1}
	var running atomic.Int64
	parallel(goroutines, func(g int) {
		charges := []ratelimit.Charge{slot, other}
		if g%2 == 1 {
			charges[0], charges[1] = other, slot // the order must not matter
		}
		for i := range rounds {
			id := ratelimit.ID{Instance: uint64(g), Seq: uint64(i)}
			d, err := f.store.Admit(t.Context(), id, charges, ratelimit.AdmitOptions{})
			if err != nil {
				t.Errorf("Admit = error %v", err)
				return
			}
			if !d.Admitted {
				continue
			}
			if n := running.Add(1); n > limitOf {
				t.Errorf("%d run at a cap of %d", n, limitOf)
			}
			running.Add(-1)
			f.end(id, i)
		}
	})
	f.used(0, slot, other)
}

// end ends an exchange in one of the ways there are.
func (f *fixture) end(id ratelimit.ID, i int) {
	var err error
	switch i % 3 {
	case 0:
		err = f.store.Settle(f.Context(), id, []int64{0, 0})
	case 1:
		err = f.store.Cancel(f.Context(), id)
	case 2:
		err = f.store.Settle(f.Context(), id, nil)
	}
	if err != nil {
		f.Errorf("end of %v = error %v", id, err)
	}
}

// parallel runs f(0) to f(n-1) at once.
func parallel(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}
