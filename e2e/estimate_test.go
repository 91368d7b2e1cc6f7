package e2e

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/weir-gateway/weir/ledger"
)

// TestEstimatesOfBrokenStreams breaks streams off at random points, from both sides,
// after a few whole ones: what is estimated then is near what the upstream generated,
// with one token an event and with several. Few at a time, and not too fast: what
// the upstream has sent and weir has not seen yet cannot be estimated.
func TestEstimatesOfBrokenStreams(t *testing.T) {
	t.Parallel()
	for _, per := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d tokens an event", per), func(t *testing.T) {
			t.Parallel()
			script := func(more string) string { return fmt.Sprintf("per=%d,%s", per, more) }
			r := start(t, fixture{metering: "streamed"})
			const taught = 12
			for i := range taught {
				r.post(chat(`"stream":true`), "X-Simulate", script(fmt.Sprintf("tokens=%d", 90+17*i)))
			}
			r.settled(taught)
			const n, atOnce = 120, 6
			var running sync.WaitGroup
			for w := range atOnce {
				running.Go(func() {
					for i := range n / atOnce {
						events := 2 + rand.IntN(40)
						if (w+i)%2 == 0 {
							_, _ = r.try(t.Context(), http.MethodPost, "/v1/chat/completions", chat(`"stream":true`),
								"X-Simulate", script(fmt.Sprintf("tokens=3000,pace=10ms,fail=reset:%d", events)))
						} else {
							r.hangUp(events, script("tokens=3000,pace=10ms"))
						}
					}
				})
			}
			running.Wait()
			r.estimatesNear(r.settled(taught + n)[taught:])
		})
	}
}

// hangUp reads so many events of a stream, and leaves.
func (r *rig) hangUp(events int, script string) {
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	resp, err := r.send(ctx, http.MethodPost, "/v1/chat/completions", chat(`"stream":true`), "X-Simulate", script)
	if err != nil {
		r.t.Error(err)
		return
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); events > 0 && lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "data:") {
			events--
		}
	}
}

// estimatesNear compares records with what the simulator generated: within 5 % in
// sum, and nine in ten within 15 % or 3 tokens.
func (r *rig) estimatesNear(records []ledger.Record) {
	r.t.Helper()
	if err := r.sim.Ledger().Wait(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	truth := map[string]int64{}
	for _, e := range r.sim.Ledger().Entries() {
		truth[e.RequestID] = e.Completion
	}
	var estimated, generated int64
	var far []string
	for _, rec := range records {
		want := truth[rec.RequestID]
		if rec.Source != ledger.Estimated || rec.Outcome != ledger.Aborted && rec.Outcome != ledger.Cut {
			r.t.Errorf("a broken stream is %s and %s", rec.Outcome, rec.Source)
		}
		estimated, generated = estimated+rec.Tokens.Output, generated+want
		if off := rec.Tokens.Output - want; float64(max(off, -off)) > max(3, 0.15*float64(want)) {
			far = append(far, fmt.Sprintf("%d for %d (%s)", rec.Tokens.Output, want, rec.Outcome))
		}
	}
	r.t.Logf("%d tokens estimated for %d; far off are %d of %d: %v", estimated, generated, len(far), len(records), far)
	if off := float64(estimated-generated) / float64(generated); max(off, -off) > 0.05 {
		r.t.Errorf("%d tokens estimated for %d: %.1f %% off", estimated, generated, 100*off)
	}
	if len(far) > len(records)/10 {
		r.t.Errorf("%d of %d estimates are far off", len(far), len(records))
	}
}
