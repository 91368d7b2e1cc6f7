package main

import (
	"fmt"
	"io"
	"slices"
)

// Goals of what weir adds to plain Envoy at the fast rate, in ms.
const (
	goalP50 = 0.3
	goalP99 = 1.5
)

// keepsUp is the part of a rate that a chain must answer to be said to keep up.
const keepsUp = 0.98

// atRateRow is what a chain does at a rate. Of latencies, in ms, the medians of
// the rounds are taken, not the best: what is rare is what a p99 is about.
type atRateRow struct {
	Chain    string  `json:"chain"`
	Asked    int     `json:"asked_per_second"`
	Answered float64 `json:"answered_per_second"` // in the worst round
	LateP99  float64 `json:"late_p99_ms"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	Both     float64 `json:"envoy_and_server_us"`
	Redis    float64 `json:"redis_us"`
	Alone    int     `json:"decided_alone"` // answers, in all rounds
	// Above plain Envoy in the same round.
	AddedP50 spread `json:"added_p50_ms"`
	AddedP99 spread `json:"added_p99_ms"`
}

// spread is how a figure varies over rounds.
type spread struct {
	Least  float64 `json:"least"`
	Median float64 `json:"median"`
	Most   float64 `json:"most"`
}

// newSpread sorts the values.
func newSpread(values []float64) spread {
	n := len(values)
	if n == 0 {
		return spread{}
	}
	slices.Sort(values)
	return spread{values[0], (values[(n-1)/2] + values[n/2]) / 2, values[n-1]}
}

// String is for a column of a table.
func (s spread) String() string {
	return fmt.Sprintf("%+.2f (%+.2f … %+.2f)", s.Median, s.Least, s.Most)
}

// atRate are the rows of a rate.
func (r *report) atRate(rate int) []atRateRow {
	name := rateName(rate)
	var rows []atRateRow
	r.inOrder(name, func(chain string, _ figures) {
		row := atRateRow{Chain: chain, Asked: rate}
		of := func(f func(v figures) float64) spread {
			var values []float64
			for k := range r.count[name] {
				values = append(values, f(r.inRound(k, chain)(name)))
			}
			return newSpread(values)
		}
		row.Answered = of(func(v figures) float64 { return v.PerSecond }).Least
		row.LateP99 = of(func(v figures) float64 { return v.LateP99 }).Median
		row.P50 = of(func(v figures) float64 { return v.P50 }).Median
		row.P99 = of(func(v figures) float64 { return v.P99 }).Median
		row.Both = of(func(v figures) float64 { return v.Both }).Median
		row.Redis = of(func(v figures) float64 { return v.Redis }).Median
		var p50, p99 []float64
		for k := range r.count[name] {
			one, plain := r.inRound(k, chain)(name), r.inRound(k, chainPlain)(name)
			p50, p99 = append(p50, one.P50-plain.P50), append(p99, one.P99-plain.P99)
			row.Alone += one.Alone
		}
		row.AddedP50, row.AddedP99 = newSpread(p50), newSpread(p99)
		rows = append(rows, row)
	})
	return rows
}

// rates prints the latency at each rate.
func (r *report) rates(w io.Writer) {
	for _, rate := range []int{slow, fast} {
		fmt.Fprintf(w, "\nPlain request, %d a second whether others are answered or not: ms from when each was due, medians of the rounds (least … most)\n", rate)
		fmt.Fprintln(w, "\tanswered/s\tp50\tp99\tabove plain: p50\tp99\tsent late p99\tEnvoy + Go µs\tRedis µs\t")
		for _, row := range r.Summary.AtRate {
			if row.Asked != rate {
				continue
			}
			p50, p99 := row.AddedP50.String(), row.AddedP99.String()
			if row.Chain == chainPlain {
				p50, p99 = "", ""
			}
			fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%.2f\t%s\t%s\t%.2f\t%.0f\t%.0f\t\n", row.Chain, row.Answered, row.P50, row.P99, p50, p99, row.LateP99, row.Both, row.Redis)
		}
	}
}

// remarks says what is to be known of the rates.
func (r *report) remarks(w io.Writer) {
	fmt.Fprintf(w, "Goal for weir at %d a second: p50 at most +%.1f ms, p99 at most +%.1f ms.\n", fast, goalP50, goalP99)
	for _, row := range r.Summary.AtRate {
		if row.Answered < keepsUp*float64(row.Asked) {
			fmt.Fprintf(w, "%s does NOT keep up with %d a second: its latencies are those of a queue that grows.\n", row.Chain, row.Asked)
		}
		if row.Alone > 0 {
			fmt.Fprintf(w, "%s decided %d requests without its store at %d a second.\n", row.Chain, row.Alone, row.Asked)
		}
	}
}
