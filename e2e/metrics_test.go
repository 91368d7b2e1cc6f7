package e2e

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/weir-gateway/weir/ledger"
	"github.com/weir-gateway/weir/ratelimit/redistest"
)

// busyLines is how many lines the ledger of a busy site has.
const busyLines = 25

// busy is a site that has met nearly all there is: its metrics have nearly all series.
func busy(t *testing.T, f fixture) *rig {
	t.Helper()
	f.limits = "  - {name: trial, requests: 1/h, shadow: true}\n  - {name: slots, concurrency: 100}\n"
	f.keys = "  - {id: limited, secret: " + limitedKey + ", limits: [{name: few, per: [key], requests: 1/h}]}\n"
	f.model = "tokens=90"
	r := pooled(t, f, "", always("fail=status:402"), fine)
	prompt := chat(`"stream":true`, `"user":"`+strings.Repeat("x ", 20)+`"`)
	prompt = strings.Replace(prompt, promptCanary, promptCanary+strings.Repeat(" and more of it", 40), 1)
	for range 10 { // after which streams are metered natively
		r.post(prompt)
	}
	r.settled(10)
	for _, path := range []string{"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"} {
		r.do(http.MethodPost, path, `{"model":"m","prompt":"a","input":"a","max_tokens":9,"messages":[{"role":"user","content":"hello"}]}`)
	}
	r.post(prompt)
	r.post(ask)                                                  // whose first key has no money left
	r.post(`{"model":"dead","messages":[]}`)                     // nobody answers
	r.post(`{"model":"nobody","messages":[]}`)                   // no such model
	r.post(chat(), "Authorization", "Bearer sk-not-a-key-00000") // nobody
	r.post(chat(), "X-Simulate", "fail=status:500")
	r.post(chat(), "X-Simulate", "fail=status:418")
	for range 2 {
		r.post(chat(), "Authorization", "Bearer "+limitedKey)
	}
	leave(r, 3, "tokens=500,pace=5ms")
	leave(r, 1<<20, "tokens=60,fail=reset:9")
	r.do(http.MethodGet, "/v1/models", "")
	r.do(http.MethodGet, "/health", "")
	r.settled(busyLines)
	return r
}

// scrape gets all metrics as Prometheus does.
func scrape(t *testing.T, r *rig) (text []byte, families map[string]*dto.MetricFamily) {
	t.Helper()
	resp, err := http.Get(r.Metrics)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	if families, err = parser.TextToMetricFamilies(bytes.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	return text, families
}

const metricsDoc = "../docs/metrics.md"

// TestMetrics looks at all metrics of sites that have met nearly all there is: with
// promlint, and whether docs/metrics.md has each of them, and no other.
func TestMetrics(t *testing.T) {
	t.Parallel()
	memory := busy(t, fixture{})
	redis := redistest.Start(t)
	shared := busy(t, fixture{redis: redis.URL()})
	redis.Stop()
	shared.post(chat()) // which is decided without the store
	shared.settled(busyLines + 1)
	all := map[string]*dto.MetricFamily{}
	for name, r := range map[string]*rig{"memory": memory, "redis": shared} {
		text, families := scrape(t, r)
		problems, err := promlint.New(bytes.NewReader(text)).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s: %s", name, p.Metric, p.Text)
		}
		maps.Copy(all, families)
		checkGenAI(t, r, families)
	}
	want := metricsTable(all)
	text, err := os.ReadFile(metricsDoc)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(text), tableBegin)
	got, after, found := strings.Cut(rest, tableEnd)
	if !found {
		t.Fatalf("%s has no table between %q and %q", metricsDoc, tableBegin, tableEnd)
	}
	if got == want {
		return
	}
	if *update {
		writeFile(t, metricsDoc, before+tableBegin+want+tableEnd+after)
		return
	}
	has := slices.Collect(strings.Lines(got))
	for _, line := range has {
		if !strings.Contains(want, line) {
			t.Errorf("the page has, and weir has not: %s", line)
		}
	}
	for line := range strings.Lines(want) {
		if !slices.Contains(has, line) {
			t.Errorf("weir has, and the page has not: %s", line)
		}
	}
}

// checkGenAI compares the GenAI metrics with the ledger.
func checkGenAI(t *testing.T, r *rig, families map[string]*dto.MetricFamily) {
	t.Helper()
	type sums struct {
		Usage, Requests, Failed, First, PerToken uint64
		Input, Output                            int64
	}
	var want, got sums
	for _, rec := range r.records() {
		if rec.Outcome == ledger.Refused {
			continue
		}
		want.Requests++
		if rec.Outcome != ledger.OK {
			want.Failed++
		}
		if rec.Source == ledger.Exact {
			want.Usage += 2
			want.Input += rec.Tokens.Input
			want.Output += rec.Tokens.Output
		}
		if rec.Outcome != ledger.OK || !rec.Stream {
			continue
		}
		want.First++
		if rec.Source == ledger.Exact && rec.Tokens.Output > 1 {
			want.PerToken++
		}
	}
	each := func(name string, yield func(labels map[string]string, h *dto.Histogram)) {
		for _, m := range families[name].GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			yield(labels, m.GetHistogram())
		}
	}
	each("gen_ai_client_token_usage", func(labels map[string]string, h *dto.Histogram) {
		got.Usage += h.GetSampleCount()
		if labels["gen_ai_token_type"] == "input" {
			got.Input += int64(h.GetSampleSum())
		} else {
			got.Output += int64(h.GetSampleSum())
		}
	})
	each("gen_ai_server_request_duration_seconds", func(labels map[string]string, h *dto.Histogram) {
		got.Requests += h.GetSampleCount()
		if labels["error_type"] != "" {
			got.Failed += h.GetSampleCount()
		}
	})
	each("gen_ai_server_time_to_first_token_seconds", func(_ map[string]string, h *dto.Histogram) { got.First += h.GetSampleCount() })
	each("gen_ai_server_time_per_output_token_seconds", func(_ map[string]string, h *dto.Histogram) { got.PerToken += h.GetSampleCount() })
	if diff := cmp.Diff(want, got); diff != "" || want.Failed < 3 || want.PerToken < 10 {
		t.Errorf("the ledger and the GenAI metrics (-want +got):\n%s\n%+v", diff, want)
	}
}

const (
	tableBegin = "<!-- the table is written by TestMetrics -update -->\n"
	tableEnd   = "<!-- end of the table -->\n"
)

// metricsTable is the table of docs/metrics.md, of what was scraped but for the metrics
// of Go and of the process.
func metricsTable(families map[string]*dto.MetricFamily) string {
	var b strings.Builder
	b.WriteString("| metric | type | labels | unit | meaning |\n|---|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(families)) {
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue
		}
		f := families[name]
		labels := map[string]bool{}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels["`"+l.GetName()+"`"] = true
			}
		}
		list := strings.Join(slices.Sorted(maps.Keys(labels)), ", ")
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", name, strings.ToLower(f.GetType().String()), list, unit(name), f.GetHelp())
	}
	return b.String()
}

// unit is what a metric's name says of its unit.
func unit(name string) string {
	switch {
	case strings.HasSuffix(name, "_seconds"):
		return "seconds"
	case strings.Contains(name, "token_usage"):
		return "tokens"
	default:
		return "1"
	}
}
