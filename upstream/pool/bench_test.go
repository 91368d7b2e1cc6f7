package pool

import (
	"fmt"
	"testing"
)

func BenchmarkPick(b *testing.B) {
	for _, s := range []struct {
		name     string
		strategy Strategy
	}{{"round robin", RoundRobin}, {"least in flight", LeastInFlight}, {"weighted", Weighted}} {
		for _, keys := range []int{1, 8, 100} {
			p := New(Options{Strategy: s.strategy}, testKeys(keys))
			tried := []string{KeyID("sk-other")}
			b.Run(fmt.Sprintf("%s/%d keys/alone", s.name, keys), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					roundTrip(b, p, tried)
				}
			})
			b.Run(fmt.Sprintf("%s/%d keys/64 goroutines", s.name, keys), func(b *testing.B) {
				b.ReportAllocs()
				b.SetParallelism(32) // on two processors
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						roundTrip(b, p, tried)
					}
				})
			})
		}
	}
}

func roundTrip(tb testing.TB, p *Pool, tried []string) {
	l, err := p.Pick(tried, nil)
	if err != nil {
		tb.Error(err)
		return
	}
	l.Done(Outcome{Class: OK, Status: 200})
}

// TestAllocations: an attempt costs its lease and nothing else.
func TestAllocations(t *testing.T) {
	for name, strategy := range map[string]Strategy{"round robin": RoundRobin, "weighted": Weighted, "least in flight": LeastInFlight} {
		p := New(Options{Strategy: strategy}, testKeys(20))
		tried := []string{KeyID("sk-canary-000000000000"), KeyID("sk-other")}
		skip := func(k *Key) bool { return k.Label == "b" }
		if n := testing.AllocsPerRun(1000, func() {
			l, err := p.Pick(tried, skip)
			if err != nil {
				t.Fatal(err)
			}
			l.Learn(Outcome{Class: OK})
			l.Done(Outcome{Class: OK})
		}); n != 1 {
			t.Errorf("%s: %v allocations, want 1", name, n)
		}
	}
}
