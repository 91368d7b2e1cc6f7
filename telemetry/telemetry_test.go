package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/weir-gateway/weir/openai"
)

func TestMetricsAreNamedAsTheyShould(t *testing.T) {
	m := NewMetrics()
	use(m)
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func use(m *Metrics) {
	m.Admitted(40 * time.Microsecond)
	m.FirstToken("m", time.Second)
	m.Settled("m", "ok", "exact", 3, 4)
	m.Served(&Answer{
		Operation: "chat", Upstream: "u", Model: "m", Served: "served", Stream: true, Exact: true, Input: 3, Output: 4, Duration: 4 * time.Second, First: time.Second,
	})
	m.Answered("chat_completions", 200, "", time.Second)
	m.Answered("chat_completions", 429, "requests", time.Millisecond)
	m.Refused("key-qps")
	m.LeasesLost(2)
	m.Estimated("prompt", 110, 100)
	m.Counter("weir_ledger_lines_lost_total", "Lines that were lost.", func() float64 { return 3 })
	m.Gauge("weir_keys", "Client keys in force.", func() float64 { return 7 })
}

// TestNativeHistograms are scraped by a Prometheus that asks for protobuf.
func TestNativeHistograms(t *testing.T) {
	m := NewMetrics()
	use(m)
	w := httptest.NewRecorder()
	req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	req.Header.Set("Accept", string(expfmt.NewFormat(expfmt.TypeProtoDelim)))
	m.Handler().ServeHTTP(w, req)
	seen := 0
	for dec := expfmt.NewDecoder(w.Body, expfmt.NewFormat(expfmt.TypeProtoDelim)); ; {
		var f dto.MetricFamily
		if err := dec.Decode(&f); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if f.GetType() != dto.MetricType_HISTOGRAM || strings.HasPrefix(f.GetName(), "go_") {
			continue
		}
		seen++
		h := f.GetMetric()[0].GetHistogram()
		if len(h.GetBucket()) == 0 || h.Schema == nil || len(h.GetPositiveSpan())+len(h.GetNegativeSpan()) == 0 {
			t.Errorf("%s is not a histogram of both kinds: %v", f.GetName(), h)
		}
	}
	if seen < 8 {
		t.Errorf("%d histograms", seen)
	}
}

// TestSeriesAreBounded when names come without end, from whatever side.
func TestSeriesAreBounded(t *testing.T) {
	m := NewMetrics()
	use(m)
	const names = 2000
	for i := range names {
		name := "n" + strconv.Itoa(i)
		m.FirstToken(name, time.Second)
		m.Settled(name, "ok", "exact", 3, 4)
		m.Served(&Answer{Operation: "chat", Upstream: name, Model: name, Served: name, Error: name, Exact: true})
		m.Served(&Answer{Operation: "chat", Upstream: name, Model: name, Served: name, Stream: true, Exact: true, Output: 4, First: 1})
		m.Refused(name)
		m.Shadowed(name)
		m.Attempt(name)
		m.AttemptEnded(name, "ok")
		m.KeyChanged(name, "cooling")
		m.Answered("chat_completions", 1000+i, name, time.Second)
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		most := maxCounters
		if f.GetType() == dto.MetricType_HISTOGRAM {
			most = maxHistograms
		}
		if n := len(f.GetMetric()); n > most+4 { // the closed labels of other
			t.Errorf("%s has %d series", f.GetName(), n)
		}
		for _, s := range f.GetMetric() {
			for _, l := range s.GetLabel() {
				if n := l.GetName(); (n == "status" || n == "type" || n == "error_type") && strings.HasPrefix(l.GetValue(), "n") {
					t.Errorf("%s has %s", f.GetName(), l)
				}
			}
		}
	}
	if n := testutil.ToFloat64(m.tokens.of(labels{other, "prompt"})); n != 3*(names-maxCounters/2+1) {
		t.Errorf("%v prompt tokens of other models: none may be lost", n)
	}
	if testutil.ToFloat64(m.full) == 0 {
		t.Error("nothing tells of it")
	}
}

// TestErrorTypes has a label for each type that weir's own errors have.
func TestErrorTypes(t *testing.T) {
	for _, own := range []string{
		openai.TypeInvalidRequest, openai.TypePermission, openai.TypeRequests, openai.TypeTokens, openai.TypeConcurrency, openai.TypeUnavailable, openai.TypeServer,
	} {
		if got := closedError(own); got != own {
			t.Errorf("%s is counted as %s", own, got)
		}
	}
	if got := closedError("an upstream's invention"); got != other {
		t.Errorf("counted as %s", got)
	}
}

// TestServedAllocatesNothing: metrics are a part of every exchange.
func TestServedAllocatesNothing(t *testing.T) {
	m := NewMetrics()
	a := &Answer{Operation: "chat", Upstream: "u", Model: "m", Served: "s", Stream: true, Exact: true, Input: 100, Output: 200, Duration: time.Second, First: time.Millisecond}
	if n := testing.AllocsPerRun(100, func() { m.Served(a) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkServed is what the metrics of an exchange cost.
func BenchmarkServed(b *testing.B) {
	m := NewMetrics()
	a := &Answer{Operation: "chat", Upstream: "u", Model: "m", Served: "s", Stream: true, Exact: true, Input: 100, Output: 200, Duration: time.Second, First: time.Millisecond}
	b.ReportAllocs()
	for b.Loop() {
		m.Served(a)
	}
}

func TestScrape(t *testing.T) {
	m := NewMetrics()
	use(m)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`http_requests_total{endpoint="chat_completions",status="200"} 1`,
		`http_requests_total{endpoint="chat_completions",status="429"} 1`,
		`http_request_duration_seconds_count{endpoint="chat_completions"} 2`,
		`http_active_requests 0`,
		`http_errors_total{endpoint="chat_completions",type="requests"} 1`,
		`token_usage_total{kind="completion",model="m"} 4`,
		`token_usage_total{kind="prompt",model="m"} 3`,
		`weir_exchanges_settled_total{outcome="ok",source="exact"} 1`,
		`weir_limit_refusals_total{limit="key-qps"} 1`,
		`weir_leases_lost_total 2`,
		`weir_keys 7`,
		`gen_ai_client_token_usage_sum{gen_ai_operation_name="chat",gen_ai_provider_name="u",gen_ai_request_model="m",gen_ai_response_model="served",gen_ai_token_type="output"} 4`,
		`gen_ai_server_request_duration_seconds_sum{error_type="",gen_ai_operation_name="chat",gen_ai_provider_name="u",gen_ai_request_model="m",gen_ai_response_model="served"} 4`,
		`gen_ai_server_time_to_first_token_seconds_sum{gen_ai_operation_name="chat",gen_ai_provider_name="u",gen_ai_request_model="m",gen_ai_response_model="served"} 1`,
		`gen_ai_server_time_per_output_token_seconds_sum{gen_ai_operation_name="chat",gen_ai_provider_name="u",gen_ai_request_model="m",gen_ai_response_model="served"} 1`,
		`weir_estimate_error_ratio_bucket{kind="prompt",le="0.05"} 0`,
		`weir_estimate_error_ratio_bucket{kind="prompt",le="0.2"} 1`,
		`weir_ledger_lines_lost_total 3`,
		`go_goroutines`,
	} {
		if !strings.Contains(string(body), "\n"+line) {
			t.Errorf("no line %q", line)
		}
	}
}

func TestLogger(t *testing.T) {
	var buf bytes.Buffer
	log, err := NewLogger(&buf, "info", "auto")
	if err != nil {
		t.Fatal(err)
	}
	log.Debug().Msg("hidden")
	log.Info().Str("a", "b").Msg("shown")
	var line map[string]any
	if err := json.Unmarshal(buf.Bytes(), &line); err != nil {
		t.Fatalf("not one JSON line: %v: %q", err, buf.String())
	}
	if line["message"] != "shown" || line["a"] != "b" || line["time"] == nil {
		t.Errorf("line %v", line)
	}
	log.Requests.Info().Msg("of a request")
	if strings.Contains(buf.String(), "of a request") {
		t.Error("a request's line does not wait")
	}
	if err := log.Flush(); err != nil || !strings.Contains(buf.String(), "of a request") {
		t.Errorf("flushed: %v, %s", err, buf.String())
	}
}

// TestLogFormats: the same event for programs and for people.
func TestLogFormats(t *testing.T) {
	for format, want := range map[string]bool{"json": true, "pretty": false} {
		var buf bytes.Buffer
		log, err := NewLogger(&buf, "info", format)
		if err != nil {
			t.Fatal(err)
		}
		log.Info().Str("a", "b").Msg("shown")
		if json.Valid(buf.Bytes()) != want || !strings.Contains(buf.String(), "shown") || strings.Count(buf.String(), "\n") != 1 {
			t.Errorf("%s: %q", format, buf.String())
		}
	}
}

func TestLoggerSaysWhatItTakes(t *testing.T) {
	for _, tt := range [][3]string{{"loud", "auto", "want trace, debug"}, {"", "auto", "want trace"}, {"info", "xml", "want auto, json or pretty"}} {
		if _, err := NewLogger(io.Discard, tt[0], tt[1]); err == nil || !strings.Contains(err.Error(), tt[2]) {
			t.Errorf("level %q, format %q: error %v, want %q", tt[0], tt[1], err, tt[2])
		}
	}
}
