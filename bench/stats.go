package main

import (
	"slices"
	"time"
)

// percentile is the smallest of the values that at least q of them do not
// exceed (nearest rank); 0 if there are none. It sorts them.
func percentile(values []time.Duration, q float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	rank := int(q*float64(len(values)) + 0.999999) // rounded up, forgiving what 0.99×100 is in binary
	return values[min(max(rank, 1), len(values))-1]
}

// micros is a duration in microseconds, shared among n.
func micros(d time.Duration, n int) float64 {
	if n == 0 {
		return 0
	}
	return float64(d.Nanoseconds()) / 1000 / float64(n)
}

// point is what streams of one length cost each.
type point struct{ x, y float64 }

// slope is how much more y one more x takes, on the line through two points.
func slope(a, b point) float64 {
	if a.x == b.x {
		return 0
	}
	return (b.y - a.y) / (b.x - a.x)
}

// figures are what one run of a workload gave, or the best of several.
type figures struct {
	PerSecond float64 `json:"requests_per_second"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	FirstP50  float64 `json:"first_byte_p50_ms"`
	FirstP99  float64 `json:"first_byte_p99_ms"`
	// Of a load at a rate: how late requests were sent.
	LateP99 float64 `json:"late_p99_ms"`
	// Answers that weir decided without its store: there should be none.
	Alone int `json:"decided_alone"`
	// CPU time, in µs a request.
	Envoy     float64 `json:"envoy_us"`
	Server    float64 `json:"server_us"`
	Redis     float64 `json:"redis_us"`
	Simulator float64 `json:"simulator_us"`
	Both      float64 `json:"envoy_and_server_us"`
	// What plain Envoy took for the same load at the same time; 0: it had none.
	Plain float64 `json:"plain_us"`
}

// newFigures sums a run up.
func newFigures(t timing, u usage, count int) figures {
	simulated := count
	if u.Plain > 0 {
		simulated *= 2
	}
	return figures{
		PerSecond: float64(count) / t.wall.Seconds(),
		P50:       micros(percentile(t.total, 0.50), 1000),
		P99:       micros(percentile(t.total, 0.99), 1000),
		FirstP50:  micros(percentile(t.first, 0.50), 1000),
		FirstP99:  micros(percentile(t.first, 0.99), 1000),
		LateP99:   micros(percentile(t.late, 0.99), 1000),
		Alone:     t.alone,
		Envoy:     micros(u.Envoy, count),
		Server:    micros(u.Server, count),
		Redis:     micros(u.Redis, count),
		Simulator: micros(u.Simulator, simulated),
		Both:      micros(u.Envoy+u.Server, count),
		Plain:     micros(u.Plain, count),
	}
}

// best has the better of each figure.
func best(a, b figures) figures {
	return figures{
		PerSecond: max(a.PerSecond, b.PerSecond),
		P50:       min(a.P50, b.P50), P99: min(a.P99, b.P99),
		FirstP50: min(a.FirstP50, b.FirstP50), FirstP99: min(a.FirstP99, b.FirstP99),
		LateP99: min(a.LateP99, b.LateP99), Alone: max(a.Alone, b.Alone),
		Envoy: min(a.Envoy, b.Envoy), Server: min(a.Server, b.Server),
		Redis: min(a.Redis, b.Redis), Simulator: min(a.Simulator, b.Simulator), Both: min(a.Both, b.Both), Plain: min(a.Plain, b.Plain),
	}
}
