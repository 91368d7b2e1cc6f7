package telemetry

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
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
	m.Answered("chat_completions", 200, "", time.Second)
	m.Answered("chat_completions", 429, "requests", time.Millisecond)
	m.Refused("key-qps")
	m.LeasesLost(2)
	m.Estimated("prompt", 110, 100)
	m.Counter("weir_ledger_lines_lost_total", "Lines that were lost.", func() float64 { return 3 })
	m.Gauge("weir_keys", "Client keys in force.", func() float64 { return 7 })
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
}

func TestLoggerSaysWhatItTakes(t *testing.T) {
	for _, tt := range [][3]string{{"loud", "auto", "want trace, debug"}, {"", "auto", "want trace"}, {"info", "xml", "want auto, json or pretty"}} {
		if _, err := NewLogger(io.Discard, tt[0], tt[1]); err == nil || !strings.Contains(err.Error(), tt[2]) {
			t.Errorf("level %q, format %q: error %v, want %q", tt[0], tt[1], err, tt[2])
		}
	}
}
