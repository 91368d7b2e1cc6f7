package main

import (
	"strconv"
	"strings"
)

// metrics are values of Prometheus' text format, by name and labels as they stand there.
type metrics map[string]float64

// readMetrics reads what it understands.
func readMetrics(text string) metrics {
	m := metrics{}
	for line := range strings.Lines(text) {
		at := strings.LastIndexByte(strings.TrimSpace(line), ' ')
		if at < 0 || line[0] == '#' {
			continue
		}
		if v, err := strconv.ParseFloat(strings.TrimSpace(line[at:]), 64); err == nil {
			m[line[:at]] = v
		}
	}
	return m
}

// sum adds what has that name, and those labels, as in `status="2`, which may be cut
// short.
func (m metrics) sum(name string, labels ...string) (total float64) {
	for series, v := range m {
		if series != name && !strings.HasPrefix(series, name+"{") {
			continue
		}
		fits := true
		for _, l := range labels {
			fits = fits && strings.Contains(series, l)
		}
		if fits {
			total += v
		}
	}
	return total
}
