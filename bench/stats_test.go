package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPercentile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[len(hundred)-1-i] = time.Duration(i + 1)
	}
	tests := []struct {
		name   string
		values []time.Duration
		q      float64
		want   time.Duration
	}{
		{"none", nil, 0.5, 0},
		{"one", []time.Duration{7}, 0.99, 7},
		{"half of two is the lower", []time.Duration{9, 4}, 0.5, 4},
		{"half of three is the middle", []time.Duration{9, 4, 5}, 0.5, 5},
		{"99 of 100", hundred, 0.99, 99},
		{"all", hundred, 1, 100},
		{"nothing", hundred, 0, 1},
	}
	for _, tt := range tests {
		if got := percentile(tt.values, tt.q); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestSlope(t *testing.T) {
	// Streams that cost 900 µs and 25 µs a chunk.
	if got := slope(point{32, 1700}, point{256, 7300}); got != 25 {
		t.Errorf("slope %v, want 25", got)
	}
	if got := slope(point{5, 1}, point{5, 9}); got != 0 {
		t.Errorf("slope of points above one another: %v, want 0", got)
	}
}

func TestFigures(t *testing.T) {
	a := newFigures(timing{
		wall: 2 * time.Second, total: []time.Duration{3 * time.Millisecond, time.Millisecond}, first: []time.Duration{time.Millisecond},
	}, usage{Envoy: 3 * time.Millisecond, Server: time.Millisecond}, 10)
	if a.PerSecond != 5 || a.P50 != 1 || a.P99 != 3 || a.FirstP50 != 1 || a.Envoy != 300 || a.Server != 100 || a.Both != 400 {
		t.Errorf("figures %+v", a)
	}
	beside := newFigures(timing{}, usage{Envoy: 3 * time.Millisecond, Plain: 2 * time.Millisecond, Simulator: 4 * time.Millisecond}, 10)
	if beside.Both != 300 || beside.Plain != 200 || beside.Simulator != 200 {
		t.Errorf("beside plain Envoy %+v", beside)
	}
	b := a
	b.PerSecond, b.P50, b.Server = 9, 0.5, 120
	if got := best(a, b); got.PerSecond != 9 || got.P50 != 0.5 || got.Server != 100 {
		t.Errorf("best %+v", got)
	}
}

func TestDisturbedRoundsAreLeftOut(t *testing.T) {
	runs := []run{
		{Workload: plainly, Chain: chainNoop, Round: 1, Others: 0.5, Figures: figures{Server: 10}},
		{Workload: plainly, Chain: chainWeir, Round: 1, Figures: figures{Server: 11}},
		{Workload: plainly, Chain: chainNoop, Round: 2, Others: 0.1, Figures: figures{Server: 30}},
		{Workload: plainly, Chain: chainWeir, Round: 2, Figures: figures{Server: 36}},
		{Workload: plainly, Chain: chainNoop, Round: 3, Figures: figures{Server: 20}},
		{Workload: plainly, Chain: chainWeir, Round: 3, Figures: figures{Server: 25}},
		{Workload: single, Chain: chainWeir, Round: 1, Others: 0.4, Figures: figures{Server: 70}},
	}
	r := newReport(machine{}, fullPlan(3), runs)
	if got := r.Best[plainly][chainNoop].Server; got != 20 || r.made != 4 || r.kept != 3 {
		t.Errorf("the no-op server has %v of %d of %d rounds, want 20 of 3 of 4", got, r.kept, r.made)
	}
	if got := r.Best[single][chainWeir].Server; got != 70 || r.others != 0.4 {
		t.Errorf("a workload with disturbed rounds only has %v, others %v, want 70, 0.4", got, r.others)
	}
	// The best of each is compared, and those of the same round.
	want := added{Best: 5, Rounds: []float64{5, 6}}
	if diff := cmp.Diff(want, r.Summary.AddedRequest); diff != "" {
		t.Errorf("weir adds (-want +got):\n%s", diff)
	}
	// One workload has no undisturbed round, and others have none at all.
	b := bench{plan: plan{rounds: 1, workloads: []workload{{name: plainly}, {name: single}}}}
	if w, round := b.neediest(runs); w == nil || w.name != single || round != 2 {
		t.Errorf("measured again: %v in round %d, want %s in 2", w, round, single)
	}
	if w, _ := b.neediest(runs[2:4]); w == nil || w.name != single {
		t.Errorf("measured again: %v, want %s", w, single)
	}
	b.plan.workloads = b.plan.workloads[:1]
	if w, _ := b.neediest(runs); w != nil {
		t.Errorf("measured again: %v, want nothing", w)
	}
}
