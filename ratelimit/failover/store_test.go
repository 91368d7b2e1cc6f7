package failover

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/ratelimit/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errAway = errors.New("connection refused")

// fault is how a flaky store fails.
type fault int32

const (
	fine      fault = iota
	refuses         // nothing is carried out
	replyLost       // it is carried out, and the reply is lost
	stalls          // it answers nothing until the caller gives up
)

// flaky is a store that can fail.
type flaky struct {
	*memstore.Store
	fault atomic.Int32
	calls atomic.Int64
}

func (f *flaky) set(v fault) { f.fault.Store(int32(v)) }

func (f *flaky) do(ctx context.Context, carryOut func() error) error {
	f.calls.Add(1)
	switch fault(f.fault.Load()) {
	case refuses:
		return errAway
	case replyLost:
		return errors.Join(carryOut(), errAway)
	case stalls:
		<-ctx.Done()
		return ctx.Err()
	case fine:
	}
	return carryOut()
}

func (f *flaky) Admit(ctx context.Context, id ratelimit.ID, c []ratelimit.Charge, o ratelimit.AdmitOptions) (d ratelimit.Decision, err error) {
	err = f.do(ctx, func() (err error) {
		d, err = f.Store.Admit(ctx, id, c, o)
		return err
	})
	return d, err
}

func (f *flaky) Settle(ctx context.Context, id ratelimit.ID, actual []int64) error {
	return f.do(ctx, func() error { return f.Store.Settle(ctx, id, actual) })
}

func (f *flaky) Cancel(ctx context.Context, id ratelimit.ID) error {
	return f.do(ctx, func() error { return f.Store.Cancel(ctx, id) })
}

func (f *flaky) Renew(ctx context.Context, ids []ratelimit.ID) (lost []ratelimit.ID, err error) {
	err = f.do(ctx, func() (err error) {
		lost, err = f.Store.Renew(ctx, ids)
		return err
	})
	return lost, err
}

func (f *flaky) Peek(ctx context.Context, c []ratelimit.Charge) (s []ratelimit.State, err error) {
	err = f.do(ctx, func() (err error) {
		s, err = f.Store.Peek(ctx, c)
		return err
	})
	return s, err
}

func newFlaky() *flaky { return &flaky{Store: memstore.New(memstore.Options{})} }

func limit(t *testing.T, name string, unit ratelimit.Unit, most int64, window time.Duration) *ratelimit.Limit {
	t.Helper()
	l, err := ratelimit.NewLimit(name, unit, most, window)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var seq atomic.Uint64

func nextID() ratelimit.ID { return ratelimit.ID{Instance: 1, Seq: seq.Add(1)} }

// used is what the shared store counts of a charge's limit.
func (f *flaky) used(t *testing.T, c ratelimit.Charge) int64 {
	t.Helper()
	states, err := f.Store.Peek(t.Context(), []ratelimit.Charge{c})
	if err != nil {
		t.Fatal(err)
	}
	return states[0].Used
}

func TestPolicies(t *testing.T) {
	for _, f := range []fault{refuses, replyLost, stalls} {
		for _, tt := range []struct {
			policy   Policy
			admitted int
			err      error
		}{{Open, 5, nil}, {Closed, 0, ErrClosed}, {Local, 3, nil}} {
			synctest.Test(t, func(t *testing.T) {
				store := newFlaky()
				s := New(Options{Store: store})
				c := ratelimit.Charge{Limit: limit(t, "l", ratelimit.Requests, 3, time.Hour), Scope: "key:a", Cost: 1}
				store.set(f)
				var ids []ratelimit.ID
				for range 5 {
					id := nextID()
					d, mode, err := s.Admit(t.Context(), id, []ratelimit.Charge{c}, []Policy{tt.policy}, ratelimit.AdmitOptions{})
					if !errors.Is(err, tt.err) || mode != Alone {
						t.Fatalf("fault %d, policy %d: %+v, mode %v, error %v", f, tt.policy, d, mode, err)
					}
					if d.Admitted {
						ids = append(ids, id)
					}
				}
				if len(ids) != tt.admitted {
					t.Errorf("fault %d, policy %d: %d admitted, want %d", f, tt.policy, len(ids), tt.admitted)
				}
				store.set(fine)
				if n := s.Flush(t.Context()); n != 0 {
					t.Errorf("%d debts are left", n)
				}
				if got, want := store.used(t, c), int64(min(3, tt.admitted)); got != want {
					t.Errorf("fault %d, policy %d: the store counts %d, want %d", f, tt.policy, got, want)
				}
				for _, id := range ids {
					if err := s.Cancel(t.Context(), id); err != nil {
						t.Error(err)
					}
				}
				if got := store.used(t, c); got != 0 {
					t.Errorf("fault %d, policy %d: after all were cancelled the store counts %d", f, tt.policy, got)
				}
				time.Sleep(time.Minute) // calls that were given up
			})
		}
	}
}

// TestLatency measures on a clock of its own what a stalled store costs.
func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFlaky()
		s := New(Options{Store: store})
		s.busy = func() bool { return false }
		c := ratelimit.Charge{Limit: limit(t, "l", ratelimit.Requests, 100, time.Hour), Cost: 1}
		store.set(stalls)
		for i := range 20 {
			begin := time.Now()
			if _, _, err := s.Admit(t.Context(), nextID(), []ratelimit.Charge{c}, []Policy{Local}, ratelimit.AdmitOptions{}); err != nil {
				t.Fatal(err)
			}
			took := time.Since(begin)
			if i < inARow && took > 20*time.Millisecond || i >= inARow && took > 0 {
				t.Errorf("call %d took %v", i, took)
			}
		}
		if n := store.calls.Load(); n != inARow {
			t.Errorf("the store was called %d times, want %d", n, inARow)
		}
		time.Sleep(time.Minute) // calls that were given up
	})
}

// TestBusyMachine does not take a machine without processors to spare for a store
// that is away.
func TestBusyMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFlaky()
		s := New(Options{Store: store})
		s.busy = func() bool { return true }
		c := ratelimit.Charge{Limit: limit(t, "l", ratelimit.Requests, 100, time.Hour), Cost: 1}
		store.set(stalls)
		begin := time.Now()
		_, mode, err := s.Admit(t.Context(), nextID(), []ratelimit.Charge{c}, []Policy{Local}, ratelimit.AdmitOptions{})
		if took := time.Since(begin); err != nil || mode != Alone || took != patience {
			t.Errorf("mode %v, error %v after %v, want patience of %v", mode, err, took, patience)
		}
		time.Sleep(time.Minute) // calls that were given up
	})
}

func TestRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFlaky()
		var opened, recovered atomic.Int64
		s := New(Options{Store: store, Events: Events{
			Opened: func(error) { opened.Add(1) }, Recovered: func(Outage) { recovered.Add(1) },
		}})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = s.Run(ctx) })
		slots := ratelimit.Charge{Limit: limit(t, "slots", ratelimit.Concurrency, 10, 0), Cost: 1}
		tokens := ratelimit.Charge{Limit: limit(t, "tpm", ratelimit.Tokens, 1000, time.Hour), Cost: 300}
		admit := func() (ratelimit.ID, Mode) {
			id := nextID()
			_, mode, err := s.Admit(ctx, id, []ratelimit.Charge{slots, tokens}, []Policy{Open, Open}, ratelimit.AdmitOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return id, mode
		}
		before, mode := admit()
		if mode != Shared {
			t.Fatalf("mode %v", mode)
		}
		store.set(refuses)
		var during []ratelimit.ID
		for range 8 {
			id, _ := admit()
			during = append(during, id)
		}
		if !s.Status().Away || opened.Load() != 1 {
			t.Fatalf("status %+v, opened %d times", s.Status(), opened.Load())
		}
		// One that the store knows ends, and some of those that it does not.
		for _, id := range append(during[:3:3], before) {
			if err := s.Settle(ctx, id, []int64{0, 100}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		store.set(fine)
		time.Sleep(time.Second)
		st := s.Status()
		if st.Away || st.Debts != 0 || recovered.Load() != 1 {
			t.Fatalf("a second after it is back: %+v, recovered %d times", st, recovered.Load())
		}
		if got := store.used(t, slots); got != 5 {
			t.Errorf("%d slots are held, want the 5 of live exchanges", got)
		}
		// What the outage took is counted up to the limit.
		if got := store.used(t, tokens); got < 900 || got > 1100 {
			t.Errorf("%d tokens are counted, want about the limit of 1000", got)
		}
		for _, id := range during[3:] {
			if err := s.Settle(ctx, id, []int64{0, 0}); err != nil {
				t.Fatal(err)
			}
		}
		if got := store.used(t, slots); got != 0 {
			t.Errorf("%d slots are held in the end", got)
		}
		if _, mode := admit(); mode != Shared {
			t.Errorf("afterwards: mode %v", mode)
		}
		cancel()
		running.Wait()
	})
}

// onceEach is a store that counts how often it is told of each exchange of an outage, and
// takes its time.
type onceEach struct {
	*flaky
	mu     sync.Mutex
	forced map[ratelimit.ID]int
}

func (o *onceEach) Admit(ctx context.Context, id ratelimit.ID, c []ratelimit.Charge, opts ratelimit.AdmitOptions) (ratelimit.Decision, error) {
	if opts.Force {
		time.Sleep(time.Millisecond)
		o.mu.Lock()
		o.forced[id]++
		o.mu.Unlock()
	}
	return o.flaky.Admit(ctx, id, c, opts)
}

// TestFlushWhileItRuns has the last debts told while they are being told anyway, as when a
// process ends in the moment in which its store comes back. Each is told once.
func TestFlushWhileItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &onceEach{flaky: newFlaky(), forced: map[ratelimit.ID]int{}}
		recovered := 0
		s := New(Options{Store: store, ProbeEvery: 10 * time.Millisecond, Events: Events{Recovered: func(Outage) { recovered++ }}})
		store.set(refuses)
		tokens := ratelimit.Charge{Limit: limit(t, "tpm", ratelimit.Tokens, 1000, time.Hour), Cost: 10}
		const debts = 20
		for range debts {
			id := nextID()
			if _, _, err := s.Admit(t.Context(), id, []ratelimit.Charge{tokens}, []Policy{Open}, ratelimit.AdmitOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := s.Settle(t.Context(), id, []int64{10}); err != nil {
				t.Fatal(err)
			}
		}
		store.set(fine)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = s.Run(ctx) })
		time.Sleep(15 * time.Millisecond) // Run has begun to pay
		if left := s.Flush(t.Context()); left != 0 {
			t.Errorf("%d exchanges are owed after all were told", left)
		}
		cancel()
		running.Wait()
		for id, n := range store.forced {
			if n != 1 {
				t.Errorf("exchange %v was told %d times, want once", id, n)
			}
		}
		if len(store.forced) != debts || recovered != 1 {
			t.Errorf("%d exchanges were told, and it recovered %d times; want %d and once", len(store.forced), recovered, debts)
		}
		if got := store.used(t, tokens); got != debts*10 {
			t.Errorf("the store counts %d tokens, want %d", got, debts*10)
		}
	})
}

// TestNothingIsLostOrDoubled runs exchanges through random faults. In the end the
// store counts what the exchanges took, each once, and holds no slot.
func TestNothingIsLostOrDoubled(t *testing.T) {
	for round := range 200 {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(uint64(round), 1))
			store := newFlaky()
			s := New(Options{Store: store})
			s.busy = func() bool { return false }
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() { _ = s.Run(ctx) })
			slots := ratelimit.Charge{Limit: limit(t, "slots", ratelimit.Concurrency, 1000, 0), Cost: 1}
			tokens := ratelimit.Charge{Limit: limit(t, "tph", ratelimit.Tokens, 1<<40, time.Hour), Cost: 10}
			var want int64
			var live []ratelimit.ID
			end := func(id ratelimit.ID) {
				if random.IntN(4) == 0 {
					_ = s.Cancel(ctx, id)
					return
				}
				n := random.Int64N(20)
				want += n
				_ = s.Settle(ctx, id, []int64{0, n})
			}
			for range 100 {
				store.set([]fault{fine, fine, fine, refuses, replyLost, stalls}[random.IntN(6)])
				switch {
				case random.IntN(2) == 0:
					id := nextID()
					d, _, err := s.Admit(ctx, id, []ratelimit.Charge{slots, tokens},
						[]Policy{Policy(random.IntN(3)), Policy(random.IntN(2))}, ratelimit.AdmitOptions{})
					if err == nil && d.Admitted {
						live = append(live, id)
					}
				case len(live) > 0:
					i := random.IntN(len(live))
					end(live[i])
					live = append(live[:i], live[i+1:]...)
				default:
					time.Sleep(time.Duration(random.IntN(400)) * time.Millisecond)
				}
				if random.IntN(10) == 0 {
					time.Sleep(time.Duration(random.IntN(800)) * time.Millisecond)
				}
			}
			store.set(fine)
			for _, id := range live {
				end(id)
			}
			time.Sleep(time.Minute)
			if st := s.Status(); st.Away || st.Debts != 0 {
				t.Errorf("round %d: %+v", round, st)
			}
			if got := store.used(t, slots); got != 0 {
				t.Errorf("round %d: %d slots are held", round, got)
			}
			if got := store.used(t, tokens); got != want {
				t.Errorf("round %d: %d tokens are counted, want %d", round, got, want)
			}
			cancel()
			running.Wait()
		})
	}
}

func TestShares(t *testing.T) {
	store := newFlaky()
	var all []*Store
	for i := range uint64(4) {
		all = append(all, New(Options{Store: store, Instance: i}))
	}
	for range 2 { // the first ones have to see the last
		for _, s := range all {
			s.beat(t.Context())
		}
	}
	s := all[0]
	if n := s.Status().Replicas; n != 4 {
		t.Fatalf("%d replicas, want 4", n)
	}
	all[3].leave(t.Context())
	all[1].beat(t.Context())
	if n := all[1].Status().Replicas; n != 3 {
		t.Errorf("%d replicas after one left, want 3", n)
	}
	store.set(refuses)
	c := ratelimit.Charge{Limit: limit(t, "l", ratelimit.Requests, 10, time.Hour), Cost: 1}
	admitted := 0
	for range 10 {
		d, _, err := s.Admit(t.Context(), nextID(), []ratelimit.Charge{c}, []Policy{Local}, ratelimit.AdmitOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if d.Admitted {
			admitted++
		} else if d.Refused != 0 || d.RetryAfter <= 0 {
			t.Errorf("refusal %+v", d)
		}
	}
	if admitted != 2 {
		t.Errorf("%d admitted, want 10 divided by 4 replicas", admitted)
	}
}

func TestDebtsAreBounded(t *testing.T) {
	store := newFlaky()
	dropped := 0
	s := New(Options{Store: store, MaxDebts: 10, Events: Events{Dropped: func(n int) { dropped += n }}})
	store.set(refuses)
	c := ratelimit.Charge{Limit: limit(t, "l", ratelimit.Requests, 1000, time.Hour), Cost: 1}
	for range 25 {
		if _, _, err := s.Admit(t.Context(), nextID(), []ratelimit.Charge{c}, []Policy{Open}, ratelimit.AdmitOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.Status().Debts; n != 10 || dropped != 15 {
		t.Errorf("%d debts and %d dropped, want 10 and 15", n, dropped)
	}
}
