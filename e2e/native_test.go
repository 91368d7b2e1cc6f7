package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/weir-gateway/weir/ledger"
	"github.com/weir-gateway/weir/openai"
)

// TestBothMeteringsCountAlike sends every recorded stream through weir twice, read by
// weir and read inside of Envoy: the ledgers must be the same.
func TestBothMeteringsCountAlike(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(wire + "/*/*.sse")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d recorded streams: %v", len(files), err)
	}
	ledgers := map[string][]ledger.Record{}
	for _, how := range []string{"streamed", "native"} {
		r := start(t, fixture{upstream: http.HandlerFunc(replay), metering: how})
		n := 0
		for _, file := range files {
			name := strings.TrimPrefix(filepath.ToSlash(file), wire+"/")
			for _, cut := range []string{"whole", "pieces"} {
				r.post(chat(`"stream":true`), "X-File", name, "X-Cut", cut)
				r.post(chat(`"stream":true`, `"stream_options":{"include_usage":true}`), "X-File", name, "X-Cut", cut)
				n += 2
				r.settled(n) // in the order of the requests
			}
		}
		ledgers[how] = r.settled(n)
	}
	exact := 0
	for i, want := range ledgers["streamed"] {
		got := ledgers["native"][i]
		file := files[i/4]
		if got.Outcome != want.Outcome || got.Source != want.Source {
			t.Errorf("%s: %s and %s, streamed %s and %s", file, got.Outcome, got.Source, want.Outcome, want.Source)
		}
		if want.Source != ledger.Exact {
			continue
		}
		exact++
		if diff := cmp.Diff(want.Tokens, got.Tokens); diff != "" {
			t.Errorf("%s: streamed and native (-want +got):\n%s", file, diff)
		}
	}
	if exact < 80 {
		t.Errorf("only %d of %d counts are exact: the test shows little", exact, len(ledgers["streamed"]))
	}
}

// warm has enough streams counted that the next ones are metered natively.
func warm(r *rig, headers ...string) {
	r.t.Helper()
	for range 10 {
		if got := r.post(chat(`"stream":true`), headers...); got.status != http.StatusOK {
			r.t.Fatalf("status %d: %s", got.status, got.body)
		}
	}
	r.settled(10)
}

// TestNativeByItself has streams read inside of Envoy as soon as a few were counted.
func TestNativeByItself(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{model: "tokens=20"})
	warm(r)
	before := r.metric(`weir_answers_metered_total{metering="streamed"}`)
	got := r.post(chat(`"stream":true`))
	if strings.Contains(got.body, `"choices":[]`) || !strings.HasSuffix(got.body, "data: [DONE]\n\n") {
		t.Errorf("the client got %s", got.body[max(0, len(got.body)-400):])
	}
	records := r.settled(11)
	if last := records[10]; last.Outcome != ledger.OK || last.Source != ledger.Exact || last.Tokens.Output != 20 || last.TTFT <= 0 {
		t.Errorf("ledger %+v", last)
	}
	if after := r.metric(`weir_answers_metered_total{metering="streamed"}`); after != before {
		t.Errorf("it was metered by weir: %s streams before, %s after", before, after)
	}
}

// TestNativeDepartures breaks natively metered streams off, at random points and from
// both sides. Each is settled once; what is not exact is near the truth.
func TestNativeDepartures(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{model: "tokens=60,pace=5ms"})
	for i := range 16 {
		r.post(chat(`"stream":true`), "x-simulate", fmt.Sprintf("tokens=%d,pace=0s", 20+10*i))
	}
	r.settled(16)
	const n = 120
	var wg errgroup.Group
	wg.SetLimit(16)
	for i := range n {
		wg.Go(func() error {
			switch i % 3 {
			case 0: // the client leaves
				leave(r, 1+rand.IntN(40), "")
			case 1: // the upstream breaks off
				leave(r, 1<<20, fmt.Sprintf("tokens=60,pace=5ms,fail=reset:%d", 1+rand.IntN(50)))
			case 2: // the client leaves when it has read the end
				leave(r, 1<<20, "")
			}
			return nil
		})
	}
	_ = wg.Wait()
	records := r.settled(16 + n)
	truth := map[string]int64{}
	if err := r.sim.Ledger().Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, e := range r.sim.Ledger().Entries() {
		truth[e.RequestID] = e.Completion
	}
	outcomes := map[ledger.Outcome]int{}
	var estimated, generated int64
	var far []string
	for _, rec := range records[16:] {
		outcomes[rec.Outcome]++
		want := truth[rec.RequestID]
		if rec.Source == ledger.Exact {
			if rec.Tokens.Output != want {
				t.Errorf("exact count %d of %d", rec.Tokens.Output, want)
			}
			continue
		}
		estimated, generated = estimated+rec.Tokens.Output, generated+want
		if off := rec.Tokens.Output - want; float64(max(off, -off)) > max(3, 0.15*float64(want)) {
			far = append(far, fmt.Sprintf("%d for %d (%s)", rec.Tokens.Output, want, rec.Outcome))
		}
	}
	t.Logf("outcomes %v; %d tokens estimated for %d; beyond 15 %% or 3 tokens: %v", outcomes, estimated, generated, far)
	if outcomes[ledger.Aborted] != n/3 || outcomes[ledger.Cut] != n/3 || outcomes[ledger.OK] != n/3 {
		t.Errorf("outcomes %v, want a third each of aborted, cut and ok", outcomes)
	}
	if len(far) > n*2/3/10 {
		t.Errorf("more than a tenth of the estimates are far off")
	}
	if off := float64(estimated-generated) / float64(generated); max(off, -off) > 0.05 {
		t.Errorf("%d tokens estimated for %d: %.1f %% off", estimated, generated, 100*off)
	}
}

// TestNativeResets has the upstream break streams off in the moment in which weir is asked
// about their head: Envoy then forgets what it holds, and answers with an error of its own.
func TestNativeResets(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{metering: "native"})
	const n = 30
	for range n {
		leave(r, 1<<20, "fail=reset:9")
	}
	for _, rec := range r.settled(n) {
		if rec.Outcome != ledger.Cut || rec.Source != ledger.Estimated || rec.Tokens.Input == 0 || rec.Tokens.Output < 1 || rec.Tokens.Output > 12 {
			t.Errorf("ledger %+v, want a cut stream of up to nine tokens", rec)
		}
	}
	if log := r.Log(); strings.Contains(log, "did not read") {
		t.Errorf("weir warns of what is well:\n%s", log)
	}
}

// leave reads so many events of a stream, at most up to its end, and hangs up. A
// request that a connection lost which Envoy was closing is sent again.
func leave(r *rig, events int, script string) {
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	resp, err := r.send(ctx, http.MethodPost, "/v1/chat/completions", chat(`"stream":true`), "x-simulate", script)
	for range 5 {
		if err == nil {
			break
		}
		resp, err = r.send(ctx, http.MethodPost, "/v1/chat/completions", chat(`"stream":true`), "x-simulate", script)
	}
	if err != nil {
		r.t.Error(err)
		return
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); events > 0 && lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "data:") {
			events--
		}
		if lines.Text() == "data: [DONE]" {
			return
		}
	}
}

// TestStreamsSurviveWeir kills weir while answers stream. Those that are metered
// natively end whole; no request that weir did not admit gets in; and a new weir goes
// on where the old one was.
func TestStreamsSurviveWeir(t *testing.T) {
	t.Parallel()
	a := startApart(t, fixture{model: "tokens=100,pace=10ms", metering: "native"})
	const n = 20
	bodies := make(chan string, n)
	var flowing sync.WaitGroup
	flowing.Add(n)
	for range n {
		go func() {
			resp, err := a.send(t.Context(), http.MethodPost, "/v1/chat/completions", chat(`"stream":true`))
			if err != nil {
				t.Error(err)
				flowing.Done()
				bodies <- ""
				return
			}
			defer resp.Body.Close()
			first := make([]byte, 1)
			_, _ = io.ReadFull(resp.Body, first)
			flowing.Done()
			rest, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Errorf("a stream was cut: %v", err)
			}
			bodies <- string(first) + string(rest)
		}()
	}
	flowing.Wait()
	a.kill()
	before := a.sim.Ledger().Len()
	for range 20 {
		if got := a.post(chat(`"stream":true`)); got.status != http.StatusServiceUnavailable || got.code() != openai.CodeOverloaded {
			t.Errorf("without weir: status %d: %s", got.status, got.body)
		}
	}
	if after := a.sim.Ledger().Len(); after != before {
		t.Errorf("%d requests reached the upstream while there was no weir", after-before)
	}
	for range n {
		body := <-bodies
		if !strings.HasSuffix(body, "data: [DONE]\n\n") || strings.Count(body, "data:") != 102 {
			t.Errorf("a stream has %d events and ends in %q", strings.Count(body, "data:"), body[max(0, len(body)-60):])
		}
	}
	a.serve()
	a.eventually("the new weir serves", a.answers)
}

// TestNoStreamLosesPartsWithWeir kills weir while it sees the pieces of answers, some of
// which are then in its hands: what is lost with it must not look like a whole answer.
func TestNoStreamLosesPartsWithWeir(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]fixture{"watched": {idle: "1m"}, "streamed": {metering: "streamed"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f.model = "tokens=400,pace=2ms"
			killAmid(t, startApart(t, f))
		})
	}
}

func killAmid(t *testing.T, a *apart) {
	t.Helper()
	const n = 20
	type result struct {
		events int
		whole  bool
	}
	results := make(chan result, n)
	var flowing sync.WaitGroup
	flowing.Add(n)
	for range n {
		go func() {
			resp, err := a.send(t.Context(), http.MethodPost, "/v1/chat/completions", chat(`"stream":true`))
			if err != nil {
				t.Error(err)
				flowing.Done()
				results <- result{}
				return
			}
			defer resp.Body.Close()
			first := make([]byte, 1)
			_, _ = io.ReadFull(resp.Body, first)
			flowing.Done()
			rest, err := io.ReadAll(resp.Body)
			body := string(first) + string(rest)
			results <- result{strings.Count(body, "data:"), err == nil && strings.HasSuffix(body, "data: [DONE]\n\n")}
		}()
	}
	flowing.Wait()
	a.kill()
	whole := 0
	for range n {
		r := <-results
		if r.whole {
			whole++
			if r.events < 402 { // role, text, [DONE]; the usage event may have come through
				t.Errorf("a stream of %d events of 402 ends as if it were whole", r.events)
			}
		}
	}
	t.Logf("%d of %d streams ended whole", whole, n)
	a.serve()
	a.eventually("the new weir serves", a.answers)
}
