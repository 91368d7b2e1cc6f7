package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/weir-gateway/weir/ledger"
	"github.com/weir-gateway/weir/simulator"
)

// mixed is a request of some kind.
type mixed struct {
	path, body string
	script     string // for the simulator
	stream     bool
}

// mix makes requests of all kinds: endpoints, plain and streamed, several choices,
// tools, usage asked for and not, and told in all the ways that servers have.
func mix(r *rand.Rand, script string) mixed {
	words := strings.Repeat("some words to read ", 1+r.IntN(6))
	n := 1 + r.IntN(12)
	m := mixed{script: fmt.Sprintf("tokens=%d%s", n, script)}
	switch r.IntN(12) {
	case 0:
		m.path, m.body = embeddings, `"input":["`+words+`","`+words+`"]`
	case 1:
		m.path, m.body = rerank, `"query":"`+words+`","documents":["a b c","`+words+`"]`
	case 2:
		m.path, m.body = score, `"text_1":"`+words+`","text_2":"`+words+`"`
	case 3:
		m.path, m.body = responses, `"input":"`+words+`"`
		m.stream = r.IntN(2) == 0
	case 4:
		m.path, m.body = messages, `"max_tokens":50,"messages":[{"role":"user","content":"`+words+`"}]`
		m.stream = r.IntN(2) == 0
	case 5:
		m.path, m.body = "/v1/completions", `"prompt":["`+words+`","x y z"]`
		m.stream = r.IntN(2) == 0
	default:
		m.path, m.body = "/v1/chat/completions", `"messages":[{"role":"system","content":"be brief"},{"role":"user","content":"`+words+`"}]`
		m.stream = r.IntN(3) > 0
		if r.IntN(4) == 0 {
			m.body += `,"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]`
		}
	}
	if m.path == "/v1/completions" || m.path == "/v1/chat/completions" {
		m.body += fmt.Sprintf(`,"n":%d`, 1+r.IntN(3)*r.IntN(2))
		m.script += []string{"", ",usage=chunks", ",usage=finish", ",usage=zeros", ",per=3"}[r.IntN(5)]
		if m.stream && r.IntN(2) == 0 {
			m.body += `,"stream_options":{"include_usage":true}`
		}
	}
	if m.stream {
		m.body += `,"stream":true`
	}
	m.body = asking("m", m.body)
	return m
}

// TestMixedRequestsAreCountedExactly compares, request by request, what weir has in its
// ledger with what the upstream did.
func TestMixedRequestsAreCountedExactly(t *testing.T) {
	t.Parallel()
	n := 10_000
	if floodSize < 1000 || testing.Short() { // a weir that watches for races is ten times slower
		n = 1000
	}
	r := start(t, fixture{model: "tokens=5"})
	source := rand.New(rand.NewPCG(1, 2))
	var group errgroup.Group
	group.SetLimit(24)
	for range n {
		m := mix(source, "")
		group.Go(func() error {
			got := r.do(http.MethodPost, m.path, m.body, "x-simulate", m.script)
			if got.status != http.StatusOK {
				return fmt.Errorf("%s %s: status %d: %s", m.path, m.body, got.status, got.body)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	truth := r.truth()
	var input, output int64
	for _, rec := range r.settled(n) {
		e := truth[rec.RequestID]
		delete(truth, rec.RequestID)
		input, output = input+rec.Tokens.Input, output+rec.Tokens.Output
		if rec.Source != ledger.Exact || rec.Outcome != ledger.OK || rec.Tokens.Input != e.Prompt || rec.Tokens.Output != e.Completion {
			t.Errorf("%s: %s and %s, tokens %+v; the upstream read %d and made %d", rec.Endpoint, rec.Outcome, rec.Source, rec.Tokens, e.Prompt, e.Completion)
		}
	}
	if len(truth) > 0 {
		t.Errorf("%d requests of the upstream are not in the ledger", len(truth))
	}
	totals := r.sim.Ledger().Totals()
	t.Logf("%d requests: %d and %d tokens in the ledger, %d and %d at the upstream; natively %s, by weir %s",
		n, input, output, totals.Prompt, totals.Completion, r.metric(`weir_answers_metered_total{metering="native"}`), r.metric(`weir_answers_metered_total{metering="streamed"}`))
	if input != totals.Prompt || output != totals.Completion {
		t.Error("the sums differ")
	}
}

// truth is what the upstream did, by the id of the request, once it is idle.
func (r *rig) truth() map[string]simulator.Entry {
	r.t.Helper()
	if err := r.sim.Ledger().Wait(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	all := map[string]simulator.Entry{}
	for _, e := range r.sim.Ledger().Entries() {
		all[e.RequestID] = e
	}
	return all
}

// TestMixedRequestsWithAborts has three of ten clients leave at a random point. Tokens
// come at the speed of a real engine: what it makes between a client's leaving and its
// hearing of it is in its ledger, and nobody else can know.
func TestMixedRequestsWithAborts(t *testing.T) {
	t.Parallel()
	const n = 600
	for _, metering := range []string{"auto", "streamed"} {
		t.Run(metering, func(t *testing.T) {
			t.Parallel()
			r := start(t, fixture{model: "tokens=40", metering: metering})
			source := rand.New(rand.NewPCG(3, 4))
			for range 60 { // what weir has to learn
				m := mix(source, "")
				r.do(http.MethodPost, m.path, m.body, "x-simulate", strings.Replace(m.script, "tokens=", "pace=1ms,tokens=4", 1))
			}
			r.settled(60)
			var group errgroup.Group
			group.SetLimit(20)
			for range n {
				m := mix(source, "")
				m.script = strings.Replace(m.script, "tokens=", "pace=20ms,tokens=4", 1)
				leaves := source.IntN(10) < 3
				after := source.IntN(4000)
				group.Go(func() error { return r.part(m, leaves, after) })
			}
			if err := group.Wait(); err != nil {
				t.Fatal(err)
			}
			compareParted(t, r.settled(60 + n)[60:], r.truth())
		})
	}
}

// part sends a request, and hangs up after so many bytes of the answer if told to.
func (r *rig) part(m mixed, leaves bool, after int) error {
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	resp, err := r.send(ctx, http.MethodPost, m.path, m.body, "x-simulate", m.script)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if !leaves {
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	_, _ = io.CopyN(io.Discard, resp.Body, int64(after))
	return nil
}

func compareParted(t *testing.T, records []ledger.Record, truth map[string]simulator.Entry) {
	t.Helper()
	var charged, made int64
	var off []float64 // of estimates, in parts of what is allowed
	seen := map[string]bool{}
	for _, rec := range records {
		e, ok := truth[rec.RequestID]
		if !ok || seen[rec.RequestID] {
			t.Errorf("request %s: at the upstream %v, settled twice %v", rec.RequestID, ok, seen[rec.RequestID])
		}
		seen[rec.RequestID] = true
		if rec.Source == ledger.Exact {
			if rec.Tokens.Output != e.Completion && e.Outcome == simulator.OutcomeComplete || rec.Tokens.Input != e.Prompt {
				t.Errorf("%s %s: an exact count of %+v for %d and %d", rec.Endpoint, rec.Outcome, rec.Tokens, e.Prompt, e.Completion)
			}
			continue
		}
		if rec.Tokens.Input == 0 || rec.Tokens.Output == 0 && e.Completion > 0 {
			t.Errorf("%s: %s, tokens %+v; the upstream made %d", rec.Endpoint, rec.Outcome, rec.Tokens, e.Completion)
		}
		charged, made = charged+rec.Tokens.Output, made+e.Completion
		miss := float64(rec.Tokens.Output - e.Completion)
		off = append(off, max(miss, -miss)/max(3, 0.15*float64(e.Completion)))
	}
	slices.Sort(off)
	p90 := off[len(off)*9/10]
	sum := 100 * float64(charged-made) / float64(made)
	t.Logf("%s: %d of %d estimated: %d tokens for %d, %+.1f %% in sum; the p90 of their errors is %.2f of what is allowed", t.Name(), len(off), len(records), charged, made, sum, p90)
	if len(off) < len(records)/10 {
		t.Errorf("only %d were estimated: the test shows little", len(off))
	}
	// Alone on a machine they are within 5 % in sum, and nine of ten within 15 % or 3
	// tokens; where others have the cores, the upstream hears of the leaving later.
	if sum > 15 || sum < -15 || p90 > 2 {
		t.Error("estimates are too far off")
	}
}
