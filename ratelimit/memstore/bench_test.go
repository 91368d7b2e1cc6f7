package memstore_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/ratelimit/memstore"
)

// tenLimits are the charges of an exchange as a gateway makes them: five scopes,
// windows of all lengths, three concurrency limits.
func tenLimits(tb testing.TB, key string) []ratelimit.Charge {
	tb.Helper()
	specs := []struct {
		name, scope string
		unit        ratelimit.Unit
		window      time.Duration
		cost        int64
	}{
		{"key-qps", "key:" + key, ratelimit.Requests, time.Second, 1},
		{"key-tpm", "key:" + key, ratelimit.Tokens, time.Minute, 1200},
		{"key-slots", "key:" + key, ratelimit.Concurrency, 0, 1},
		{"key-out", "key:" + key, ratelimit.OutputTokens, time.Hour, 900},
		{"model-rpm", "key:" + key + "/model:m", ratelimit.Requests, time.Minute, 1},
		{"model-slots", "key:" + key + "/model:m", ratelimit.Concurrency, 0, 1},
		{"user-rpm", "user:u_" + key, ratelimit.Requests, time.Minute, 1},
		{"user-in", "user:u_" + key, ratelimit.InputTokens, time.Minute, 300},
		{"team-tph", "team:t_1", ratelimit.Tokens, time.Hour, 1200},
		{"site-slots", "", ratelimit.Concurrency, 0, 1},
	}
	charges := make([]ratelimit.Charge, 0, len(specs))
	for _, s := range specs {
		l, err := ratelimit.NewLimit(s.name, s.unit, 1<<50, s.window)
		if err != nil {
			tb.Fatal(err)
		}
		charges = append(charges, ratelimit.Charge{Limit: l, Scope: s.scope, Cost: s.cost})
	}
	return charges
}

// exchanger runs whole exchanges without allocating.
type exchanger struct {
	store   *memstore.Store
	charges []ratelimit.Charge
	actual  []int64
	states  []ratelimit.State
	seq     *atomic.Uint64
}

func newExchanger(store *memstore.Store, charges []ratelimit.Charge, seq *atomic.Uint64) *exchanger {
	x := &exchanger{store: store, charges: charges, seq: seq, states: make([]ratelimit.State, 0, len(charges))}
	for _, c := range charges {
		x.actual = append(x.actual, c.Cost*2/3)
	}
	return x
}

func (x *exchanger) run(ctx context.Context, tb testing.TB) {
	id := ratelimit.ID{Instance: 1, Seq: x.seq.Add(1)}
	opts := ratelimit.AdmitOptions{States: x.states}
	if d, err := x.store.Admit(ctx, id, x.charges, opts); err != nil || !d.Admitted {
		tb.Fatalf("Admit = %+v, error %v", d, err)
	}
	if err := x.store.Settle(ctx, id, x.actual); err != nil {
		tb.Fatal(err)
	}
}

// warm fills what a store keeps for reuse.
func (x *exchanger) warm(ctx context.Context, tb testing.TB) {
	for range 1 << 16 {
		x.run(ctx, tb)
	}
}

func TestAdmitDoesNotAllocate(t *testing.T) {
	x := newExchanger(memstore.New(memstore.Options{}), tenLimits(t, "k_7f3"), new(atomic.Uint64))
	ctx := t.Context()
	x.warm(ctx, t)
	if n := testing.AllocsPerRun(20_000, func() { x.run(ctx, t) }); n != 0 {
		t.Errorf("an exchange allocates %v times, want 0", n)
	}
}

func TestRefusalDoesNotAllocate(t *testing.T) {
	store := memstore.New(memstore.Options{})
	charges := tenLimits(t, "k_7f3")
	full, err := ratelimit.NewLimit("full", ratelimit.Concurrency, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	charges = append(charges, ratelimit.Charge{Limit: full, Cost: 1})
	ctx, seq := t.Context(), uint64(0)
	states := make([]ratelimit.State, 0, len(charges))
	admit := func() bool {
		seq++
		d, err := store.Admit(ctx, ratelimit.ID{Seq: seq}, charges, ratelimit.AdmitOptions{States: states})
		if err != nil {
			t.Fatal(err)
		}
		return d.Admitted
	}
	if !admit() {
		t.Fatal("the first was refused")
	}
	for range 200 {
		admit() // each shard makes its first receipt
	}
	if n := testing.AllocsPerRun(1000, func() { admit() }); n != 0 {
		t.Errorf("a refusal allocates %v times, want 0", n)
	}
}

func BenchmarkAdmitSettle(b *testing.B) {
	for _, n := range []int{1, 3, 10} {
		b.Run(fmt.Sprintf("limits=%d", n), func(b *testing.B) {
			x := newExchanger(memstore.New(memstore.Options{}), tenLimits(b, "k_7f3")[:n], new(atomic.Uint64))
			x.warm(b.Context(), b)
			b.ReportAllocs()
			for b.Loop() {
				x.run(b.Context(), b)
			}
		})
	}
}

// BenchmarkAdmitSettleKeys goes round ten thousand keys, which do not fit the
// caches of a processor.
func BenchmarkAdmitSettleKeys(b *testing.B) {
	store, seq := memstore.New(memstore.Options{}), new(atomic.Uint64)
	keys := make([]*exchanger, 10_000)
	for i := range keys {
		keys[i] = newExchanger(store, tenLimits(b, fmt.Sprintf("k_%d", i)), seq)
		keys[i].run(b.Context(), b)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		keys[i%len(keys)].run(b.Context(), b)
		i++
	}
}

// BenchmarkParallel has a key for each goroutine; the site's and the team's
// limits are everybody's.
func BenchmarkParallel(b *testing.B) {
	store, seq := memstore.New(memstore.Options{}), new(atomic.Uint64)
	var key atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		x := newExchanger(store, tenLimits(b, fmt.Sprintf("k_%d", key.Add(1))), seq)
		for pb.Next() {
			x.run(b.Context(), b)
		}
	})
}

func BenchmarkRefuse(b *testing.B) {
	store := memstore.New(memstore.Options{})
	charges := tenLimits(b, "k_7f3")
	l, err := ratelimit.NewLimit("rph", ratelimit.Requests, 1, time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	charges[9] = ratelimit.Charge{Limit: l, Scope: "", Cost: 1}
	states := make([]ratelimit.State, 0, len(charges))
	seq := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		seq++
		id := ratelimit.ID{Seq: seq}
		if _, err := store.Admit(b.Context(), id, charges, ratelimit.AdmitOptions{States: states}); err != nil {
			b.Fatal(err)
		}
	}
}
