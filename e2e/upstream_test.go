package e2e

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/weir-gateway/weir/ledger"
)

// TestUpstreamFailures lets the upstream fail in every scripted way.
func TestUpstreamFailures(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{model: "tokens=10", limits: "  - {name: slots, concurrency: 1}\n  - {name: tpm, tokens: 1000000/m}\n"})
	plain, stream := chat(), chat(`"stream":true`)
	tests := []struct {
		name, script, body string
		status             int
		code, source       string
		outcome            ledger.Outcome
		ends               string // what the body ends in
		broken             bool   // the client sees the connection break
	}{
		{name: "400", script: "fail=status:400", body: plain, status: 400, source: "upstream", outcome: ledger.UpstreamError},
		{name: "401", script: "fail=status:401", body: plain, status: 502, code: "upstream_error", source: "upstream", outcome: ledger.UpstreamError},
		{name: "429", script: "fail=status:429,retry_after=3", body: plain, status: 429, code: "rate_limit_exceeded", source: "upstream", outcome: ledger.UpstreamError},
		{name: "429 for long", script: "fail=status:429,retry_after=300", body: stream, status: 429, code: "rate_limit_exceeded", source: "upstream", outcome: ledger.UpstreamError},
		{name: "500", script: "fail=status:500", body: stream, status: 502, code: "upstream_error", source: "upstream", outcome: ledger.UpstreamError},
		{name: "503", script: "fail=status:503", body: plain, status: 503, code: "server_is_overloaded", source: "upstream", outcome: ledger.UpstreamError},
		{name: "reset before the answer", script: "fail=reset:0", body: plain, status: 502, code: "upstream_error", source: "gateway", outcome: ledger.UpstreamError},
		{name: "closed before the answer", script: "fail=drop", body: stream, status: 502, code: "upstream_error", source: "gateway", outcome: ledger.UpstreamError},
		{name: "reset in a stream", script: "fail=reset:4,pace=5ms", body: stream, status: 200, outcome: ledger.Aborted, broken: true},
		{name: "closed in a stream", script: "fail=close:4,pace=5ms", body: stream, status: 200, outcome: ledger.Aborted, broken: true},
		{name: "clean end in a stream", script: "fail=end:4", body: stream, status: 200, outcome: ledger.Cut, ends: `"code":"upstream_error"}}` + "\n\n"},
		{name: "error event", script: "fail=error:4", body: stream, status: 200, outcome: ledger.Cut, ends: "[DONE]\n\n"},
		{name: "garbage event", script: "fail=garbage:4", body: stream, status: 200, outcome: ledger.OK, ends: "[DONE]\n\n"},
		{name: "JSON instead of a stream", script: "fail=type", body: stream, status: 200, outcome: ledger.OK, ends: "}"},
		{name: "no usage in a stream", script: "usage=never", body: stream, status: 200, outcome: ledger.OK, ends: "[DONE]\n\n"},
		{name: "no usage", script: "usage=never", body: plain, status: 200, outcome: ledger.OK, ends: "}"},
		{name: "no [DONE]", script: "done=no", body: stream, status: 200, outcome: ledger.OK},
		{name: "running totals", script: "usage=chunks", body: stream, status: 200, outcome: ledger.OK, ends: "[DONE]\n\n"},
		{name: "zeros, then the truth", script: "usage=zeros", body: stream, status: 200, outcome: ledger.OK, ends: "[DONE]\n\n"},
		{name: "usage on the last chunk", script: "usage=finish", body: stream, status: 200, outcome: ledger.OK, ends: "[DONE]\n\n"},
		{name: "compressed", script: "gzip=yes", body: plain, status: 200, outcome: ledger.OK},
		{name: "big chunks", script: "pad=200000,tokens=3", body: stream, status: 200, outcome: ledger.OK, ends: "[DONE]\n\n"},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := r.try(t.Context(), http.MethodPost, "/v1/chat/completions", tt.body, "X-Simulate", tt.script)
			if (err != nil) != tt.broken {
				t.Fatalf("error %v, broken connection wanted: %v", err, tt.broken)
			}
			if got.status != tt.status || got.code() != tt.code && got.status >= 400 && tt.code != "" || got.header.Get("X-Weir-Error-Source") != tt.source {
				t.Errorf("status %d, source %q, %s", got.status, got.header.Get("X-Weir-Error-Source"), got.body)
			}
			if !strings.HasSuffix(got.body, tt.ends) {
				t.Errorf("the body ends in %q, want %q", got.body[max(0, len(got.body)-200):], tt.ends)
			}
			rec := r.settled(i + 1)[i]
			if rec.Outcome != tt.outcome || rec.Status != tt.status {
				t.Errorf("ledger %+v", rec)
			}
			if tt.outcome == ledger.OK && (rec.Tokens.Input == 0 || rec.Tokens.Output == 0) {
				t.Errorf("an answer was settled for nothing: %+v", rec)
			}
			checkRetryHeaders(t, tt.name, got)
		})
	}
	r.eventually("no slot is held", func() bool { return r.metric("weir_leases_held") == "0" })
}

func checkRetryHeaders(t *testing.T, name string, got reply) {
	t.Helper()
	switch name {
	case "429":
		if got.header.Get("Retry-After") != "3" || got.header.Get("X-Should-Retry") != "" {
			t.Errorf("headers %v", got.header)
		}
	case "429 for long":
		if got.header.Get("Retry-After") != "300" || got.header.Get("X-Should-Retry") != "false" {
			t.Errorf("headers %v", got.header)
		}
	}
}

// TestUpstreamDown asks when nobody listens. The request is given back: it never
// left.
func TestUpstreamDown(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{limits: "  - {name: rpm, requests: 1/m}\n"})
	for range 3 {
		got := r.post(`{"model":"dead","messages":[]}`)
		if got.status != http.StatusServiceUnavailable || got.code() != "no_upstream" || got.header.Get("Retry-After") != "1" {
			t.Fatalf("status %d, headers %v, %s", got.status, got.header, got.body)
		}
	}
	for _, rec := range r.settled(3) {
		if rec.Outcome != ledger.UpstreamError || rec.Tokens.Input != 0 {
			t.Errorf("ledger %+v", rec)
		}
	}
	if body := r.do(http.MethodGet, "/health", "").body; !strings.Contains(body, `{"name":"dead","status":"down"`) {
		t.Errorf("health: %s", body)
	}
}

// TestSilentUpstream waits for an upstream that says nothing, before its answer
// and in the middle of one.
func TestSilentUpstream(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{idle: "500ms"})
	got := r.post(chat(), "X-Simulate", "fail=hang:0")
	if got.status != http.StatusGatewayTimeout || got.code() != "upstream_timeout" {
		t.Errorf("no answer: status %d, %s", got.status, got.body)
	}
	begin := time.Now()
	resp, err := r.send(t.Context(), http.MethodPost, "/v1/chat/completions", chat(`"stream":true`), "X-Simulate", "fail=hang:2")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && !bytes.Contains(body, []byte(`data: {"error"`)) {
		t.Errorf("silence in a stream ended cleanly: %q", body)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v, the idle timeout is 500 ms", took)
	}
	if records := r.settled(2); records[1].Source != ledger.Estimated || records[1].Tokens.Output == 0 {
		t.Errorf("ledger %+v", records[1])
	}
}
