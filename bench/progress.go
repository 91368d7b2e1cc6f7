package main

import (
	"fmt"
	"io"
	"time"
)

// progress tells on a terminal what goes on.
type progress struct {
	w     io.Writer
	start time.Time
}

func newProgress(w io.Writer) *progress { return &progress{w: w, start: time.Now()} }

func (p *progress) say(what string) {
	fmt.Fprintf(p.w, "%4.0fs  %s\n", time.Since(p.start).Seconds(), what)
}

// run tells of a workload that is measured.
func (p *progress) run(r *run) {
	p.say(fmt.Sprintf("round %d  %-5s  %-10s  %6d requests in %4.1f s, CPU µs a request: Envoy %.1f, Go %.1f",
		r.Round, r.Chain, r.Workload, r.Requests, r.Seconds, r.Figures.Envoy, r.Figures.Server))
}
