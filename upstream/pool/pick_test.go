package pool

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// spread counts who is picked in n sequential requests.
func (b *bench) spread(n int) map[string]int {
	b.t.Helper()
	picks := map[string]int{}
	for range n {
		l := b.pick()
		picks[l.Key().Label]++
		l.Done(Outcome{Class: OK})
	}
	return picks
}

func uneven(picks map[string]int) int {
	least, most := int(^uint(0)>>1), 0
	for _, n := range picks {
		least, most = min(least, n), max(most, n)
	}
	return most - least
}

func TestRoundRobinIsEven(t *testing.T) {
	for keys := 1; keys <= 7; keys++ {
		for requests := keys; requests < 40; requests++ {
			b := newBench(t, RoundRobin, keys)
			if picks := b.spread(requests); len(picks) != keys || uneven(picks) > 1 {
				t.Fatalf("%d requests over %d keys: %v", requests, keys, picks)
			}
		}
	}
}

func TestRoundRobinPassesOver(t *testing.T) {
	b := newBench(t, RoundRobin, 5)
	b.Disable("b")
	b.Disable("c")
	if picks := b.spread(31); len(picks) != 3 || uneven(picks) > 1 {
		t.Errorf("picks beside two that can not be used: %v", picks)
	}
	b.Enable("b")
	b.Enable("c")
	if picks := b.spread(50); len(picks) != 5 || uneven(picks) > 1 {
		t.Errorf("picks after their return: %v, want no burst", picks)
	}
}

func TestNoBurstAfterCooling(t *testing.T) {
	for name, strategy := range map[string]Strategy{"round robin": RoundRobin, "weighted": Weighted, "least in flight": LeastInFlight} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, strategy, 4)
			b.attempt(Outcome{Class: RateLimited, RetryAfter: 10 * time.Second})
			b.spread(1000)
			b.now = b.now.Add(10 * time.Second)
			picks := b.spread(40)
			if picks["a"] < 9 || picks["a"] > 11 {
				t.Errorf("picks after its return: %v, want 10 of a, ±1", picks)
			}
		})
	}
}

func TestEvenUnderLoad(t *testing.T) {
	for name, strategy := range map[string]Strategy{"round robin": RoundRobin, "weighted": Weighted} {
		t.Run(name, func(t *testing.T) {
			const keys, users, each = 5, 64, 500
			p := New(Options{Strategy: strategy}, testKeys(keys))
			var all sync.WaitGroup
			for range users {
				all.Go(func() {
					for range each {
						l, err := p.Pick(nil, nil)
						if err != nil {
							t.Error(err)
							return
						}
						l.Done(Outcome{Class: OK})
					}
				})
			}
			all.Wait()
			for _, s := range p.Status() {
				if off := float64(s.Requests)/(users*each/keys) - 1; off < -0.02 || off > 0.02 || s.InFlight != 0 {
					t.Errorf("key %s: %d requests, %d in flight; want %d ± 2 %% and 0", s.Label, s.Requests, s.InFlight, users*each/keys)
				}
			}
		})
	}
}

func TestWeighted(t *testing.T) {
	keys := testKeys(3)
	keys[0].Weight = 5
	b := newBench(t, Weighted, 0)
	b.Set(keys)
	var order strings.Builder
	for range 14 {
		order.WriteString(b.pick().Key().Label)
	}
	if got, want := order.String(), "aabacaaaabacaa"; got != want {
		t.Errorf("order = %s, want %s", got, want)
	}
	b.pick()
	b.Set(keys) // begins anew
	if got := b.pick().Key().Label + b.pick().Key().Label + b.pick().Key().Label; got != "aab" {
		t.Errorf("order after a reload = %s, want aab", got)
	}
	for range 4 {
		b.pick()
	}
	b.Disable("a")
	if picks := b.spread(20); picks["b"] != 10 || picks["c"] != 10 {
		t.Errorf("without a: %v, want it even", picks)
	}
	b.Enable("a")
	if picks := b.spread(70); picks["a"] < 49 || picks["a"] > 51 {
		t.Errorf("with a again: %v, want 50 of a, ±1", picks)
	}
}

func TestLeastInFlight(t *testing.T) {
	b := newBench(t, LeastInFlight, 3)
	var leases []*Lease
	for range 6 {
		leases = append(leases, b.pick())
	}
	for _, s := range b.Status() {
		if s.InFlight != 2 {
			t.Errorf("key %s has %d in flight, want 2", s.Label, s.InFlight)
		}
	}
	leases[1].Done(Outcome{Class: OK}) // of b
	if got := b.pick().Key().Label; got != "b" {
		t.Errorf("picked %s, want b with the fewest in flight", got)
	}
	for _, l := range leases {
		l.Done(Outcome{Class: OK})
	}
}

// TestLeastInFlightUnderLoad holds what 64 users have picked at the same time.
func TestLeastInFlightUnderLoad(t *testing.T) {
	const keys, users = 5, 64
	p := New(Options{Strategy: LeastInFlight}, testKeys(keys))
	var picked, all sync.WaitGroup
	picked.Add(users)
	release := make(chan struct{})
	for range users {
		all.Go(func() {
			l, err := p.Pick(nil, nil)
			picked.Done()
			if err != nil {
				t.Error(err)
				return
			}
			<-release
			l.Done(Outcome{Class: OK})
		})
	}
	picked.Wait()
	held := map[string]int{}
	for _, s := range p.Status() {
		held[s.Label] = s.InFlight
	}
	if uneven(held) > 1 {
		t.Errorf("in flight: %v, want them even", held)
	}
	close(release)
	all.Wait()
	for _, s := range p.Status() {
		if s.InFlight != 0 {
			t.Errorf("key %s has %d in flight, want 0", s.Label, s.InFlight)
		}
	}
}

func TestTriedAndSkipped(t *testing.T) {
	for name, strategy := range map[string]Strategy{"round robin": RoundRobin, "weighted": Weighted, "least in flight": LeastInFlight} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, strategy, 4)
			var tried, labels []string
			for range 3 {
				l, err := b.Pick(tried, func(k *Key) bool { return k.Label == "c" })
				if err != nil {
					t.Fatal(err)
				}
				tried, labels = append(tried, l.Key().ID), append(labels, l.Key().Label)
				l.Done(Outcome{Class: ServerError})
			}
			slices.Sort(labels)
			if got := strings.Join(labels, ""); got != "abd" {
				t.Errorf("picked %s, want each of a, b, d once", got)
			}
			if l, err := b.Pick(tried, func(k *Key) bool { return k.Label == "c" }); err == nil {
				t.Errorf("picked %s, want an error", l.Key().Label)
			}
		})
	}
}

func TestUnusable(t *testing.T) {
	p := New(Options{Upstream: "u"}, []Key{{Secret: "a"}, {Secret: "b"}})
	for i, k := range p.Status() {
		if none := p.Unusable(); none != nil {
			t.Errorf("with %d keys left: %v", 2-i, none)
		}
		p.Disable(k.ID)
	}
	if none := p.Unusable(); none == nil || none.Disabled != 2 || none.Upstream != "u" {
		t.Errorf("without keys: %v", none)
	}
	for _, k := range p.Status() {
		if k.Requests != 0 || k.InFlight != 0 {
			t.Errorf("to ask counts as a request: %+v", k)
		}
	}
}
