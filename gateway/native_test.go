package gateway

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-gateway/weir/config"
)

// native is an exchange whose answer Envoy is to read, after ten like it of 100 tokens in
// a second each.
func native(t *testing.T, scripted bool) (*Gateway, *Exchange) {
	t.Helper()
	g, _ := newGateway(t, oneKey())
	g.models.Servers()[0].Metering = config.MeteringNative
	c := call("k", `{"model":"big","stream":true,"messages":[{"role":"user","content":"hello"}]}`)
	c.Scripted = scripted
	x, refused := g.Admit(t.Context(), c)
	if refused != nil {
		t.Fatal(refused)
	}
	for range 10 {
		g.sizes.observe(x.kind(), 100, 1, Passed{Pieces: 100, Text: 400, Bytes: 9000, Began: 10}, time.Second)
	}
	return g, x
}

var eventStream = Head{Status: 200, ContentType: "text/event-stream"}

func TestWithoutAScriptWeirReads(t *testing.T) {
	g, x := native(t, false)
	if plan := x.Answer(eventStream); plan.Native || !plan.Observe {
		t.Errorf("%+v, though Envoy has no script", plan)
	}
	if _, found := g.Ended(x.ID(), Notes{Done: true, Ended: true}); found {
		t.Error("Envoy has the last word on an answer that weir reads")
	}
	x.End()
}

// TestDepartures tells of answers that broke off after two seconds.
func TestDepartures(t *testing.T) {
	notes := Notes{Begun: time.Now(), Passed: Passed{Pieces: 20, Text: 80, Bytes: 1808, Began: 10}}
	for name, tt := range map[string]struct {
		head   Head
		told   *Departure
		output int64
	}{
		"read":               {eventStream, &Departure{Notes: notes, Bytes: 1808}, 20},
		"before any byte":    {eventStream, &Departure{}, 0},
		"not told":           {eventStream, nil, 200},
		"not read by Envoy":  {eventStream, &Departure{Bytes: 20_000}, 200},
		"an error instead":   {eventStream, &Departure{Bytes: 147, Instead: true, Upstream: true}, 1},
		"answered otherwise": {Head{Status: 500, ContentType: "application/json"}, &Departure{Bytes: 100}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, x := native(t, true)
				if plan := x.Answer(tt.head); plan.Native != (tt.head.Status == 200) {
					t.Fatalf("%+v", plan)
				}
				time.Sleep(2 * time.Second)
				if tt.told != nil {
					g.Departed(x.ID(), tt.told)
				}
				x.End()
				time.Sleep(departureWait)
				synctest.Wait()
				took := x.Took()
				if tt.head.Status != 200 {
					if took == nil || took.Output != 0 {
						t.Errorf("it took %+v", took)
					}
				} else if took == nil || took.Output != tt.output || took.Input == 0 {
					t.Errorf("it took %+v, want %d tokens of output", took, tt.output)
				}
				if _, found := g.named(x.ID()); found && tt.head.Status == 200 {
					t.Error("it still runs")
				}
			})
		})
	}
}
