package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// atFast are the rounds of a chain at the fast rate.
func atFast(chain string, rounds ...figures) (runs []run) {
	for i, f := range rounds {
		runs = append(runs, run{Workload: rateName(fast), Chain: chain, Round: i + 1, Figures: f})
	}
	return runs
}

func TestRates(t *testing.T) {
	var runs []run
	runs = append(runs, atFast(chainPlain,
		figures{PerSecond: 1000, P50: 1, P99: 4}, figures{PerSecond: 1000, P50: 2, P99: 9}, figures{PerSecond: 999, P50: 1, P99: 5})...)
	runs = append(runs, atFast(chainWeir,
		figures{PerSecond: 998, P50: 1.5, P99: 4.5}, figures{PerSecond: 990, P50: 2.25, P99: 8}, figures{PerSecond: 1000, P50: 2, P99: 7})...)
	runs = append(runs, atFast(chainRedis,
		figures{PerSecond: 1000, Alone: 2}, figures{PerSecond: 700, P99: 400}, figures{PerSecond: 1000, Alone: 1})...)
	r := newReport(machine{}, fullPlan(3), runs)
	rows := r.Summary.AtRate
	if len(rows) != 3 {
		t.Fatalf("%d rows, want those of 3 chains: %+v", len(rows), rows)
	}
	want := atRateRow{
		Chain: chainWeir, Asked: fast, Answered: 990, P50: 2, P99: 7,
		AddedP50: spread{0.25, 0.5, 1}, AddedP99: spread{-1, 0.5, 2}, // of the same round
	}
	if diff := cmp.Diff(want, rows[1]); diff != "" {
		t.Errorf("weir (-want +got):\n%s", diff)
	}
	var out strings.Builder
	r.rates(&out)
	r.remarks(&out)
	for _, want := range []string{
		"weir\t990\t2.00\t7.00\t+0.50 (+0.25 … +1.00)\t+0.50 (-1.00 … +2.00)\t",
		"redis does NOT keep up with 1000 a second",
		"redis decided 3 requests without its store at 1000 a second",
		"at most +0.3 ms, p99 at most +1.5 ms",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "weir does NOT") {
		t.Errorf("990 of 1000 is said to be too little:\n%s", out.String())
	}
}

func TestSpread(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   spread
	}{
		{nil, spread{}},
		{[]float64{3}, spread{3, 3, 3}},
		{[]float64{4, -1}, spread{-1, 1.5, 4}},
		{[]float64{9, 1, 2}, spread{1, 2, 9}},
	} {
		if got := newSpread(tt.values); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.values, got, tt.want)
		}
	}
}
