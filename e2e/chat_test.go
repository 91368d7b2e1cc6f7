package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-gateway/weir/ledger"
)

func TestPlainAnswer(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{limits: "  - {name: key-tpm, per: [key], tokens: 100000/m}\n  - {name: key-rpm, per: [key], requests: 60/m}\n", model: "tokens=7"})
	got := r.post(chat(`"max_tokens":20`))
	if got.status != http.StatusOK || !strings.Contains(got.body, `"completion_tokens":7`) {
		t.Fatalf("status %d, body %s", got.status, got.body)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "X-Ratelimit-Limit-Requests": "60", "X-Ratelimit-Remaining-Requests": "59",
		"X-Ratelimit-Limit-Tokens": "100000",
	} {
		if h := got.header.Get(name); h != want {
			t.Errorf("header %s: %q, want %q", name, h, want)
		}
	}
	for _, name := range []string{"X-Request-Id", "X-Weir-Overhead-Ms", "X-Ratelimit-Reset-Tokens"} {
		if got.header.Get(name) == "" {
			t.Errorf("no header %s", name)
		}
	}
	rec, entry := r.settled(1)[0], r.sim.Ledger().Entries()[0]
	want := ledger.Record{
		RequestID: got.header.Get("X-Request-Id"), KeyID: "good", User: "ann", Endpoint: "chat_completions",
		Model: "m", ServedModel: "m", Upstream: "sim", Attempts: 1, Status: 200, Outcome: ledger.OK, Source: ledger.Exact,
		Tokens: ledger.Tokens{Input: entry.Prompt, Output: 7}, EstimateInput: rec.EstimateInput, Reserved: rec.Reserved,
		Time: rec.Time, TTFT: rec.TTFT, Duration: rec.Duration, Overhead: rec.Overhead,
	}
	if diff := cmp.Diff(want, rec); diff != "" {
		t.Errorf("ledger (-want +got):\n%s", diff)
	}
	if entry.RequestID != rec.RequestID {
		t.Errorf("the upstream knows the request as %q, the client as %q", entry.RequestID, rec.RequestID)
	}
}

func TestWhatReachesTheUpstream(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{extra: "envoy: {concurrency: 1}"})
	body := chat(`"unknown":{"a":[1,2.50]}`, `"stream":true`)
	got := r.post(body, "X-Custom", "kept", "X-Weir-Cluster", "spoofed", "X-Weir-Key", "other", "X-Envoy-Max-Retries", "9",
		"Cookie", "a=b", "X-Api-Key", goodKey, "Accept-Encoding", "gzip")
	if got.status != http.StatusOK {
		t.Fatalf("status %d, body %s", got.status, got.body)
	}
	entry := r.sim.Ledger().Entries()[0]
	want := strings.Replace(body, "{", `{"stream_options":{"include_usage":true},`, 1)
	if string(entry.Body) != want {
		t.Errorf("the upstream got %s\nwant %s", entry.Body, want)
	}
	if entry.Auth != upstreamSecret[len(upstreamSecret)-4:] || entry.Header.Get("X-Custom") != "kept" {
		t.Errorf("authorization ends in %q, custom header %q", entry.Auth, entry.Header.Get("X-Custom"))
	}
	for name := range entry.Header {
		lower := strings.ToLower(name)
		if strings.HasPrefix(lower, "x-weir-") || strings.HasPrefix(lower, "x-envoy-") || strings.HasPrefix(lower, "x-forwarded") || lower == "x-api-key" || lower == "cookie" || lower == "accept-encoding" {
			t.Errorf("the upstream got the header %s: %s", name, entry.Header.Get(name))
		}
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{model: "tokens=5"})
	tests := []struct {
		name, path, body string
		usage            bool
	}{
		{"usage not asked for", "/v1/chat/completions", chat(`"stream":true`), false},
		{"usage asked for", "/v1/chat/completions", chat(`"stream":true`, `"stream_options":{"include_usage":true}`), true},
		{"usage declined", "/v1/chat/completions", chat(`"stream":true`, `"stream_options":{"include_usage":false}`), false},
		{"completions", "/v1/completions", `{"model":"alias","prompt":"hello","stream":true}`, false},
	}
	for i, tt := range tests {
		got := r.do(http.MethodPost, tt.path, tt.body)
		if got.status != http.StatusOK || got.header.Get("Content-Type") != "text/event-stream; charset=utf-8" {
			t.Fatalf("%s: status %d, content type %q", tt.name, got.status, got.header.Get("Content-Type"))
		}
		if got.header.Get("Cache-Control") != "no-cache" || got.header.Get("X-Accel-Buffering") != "no" {
			t.Errorf("%s: headers %v", tt.name, got.header)
		}
		if !strings.HasSuffix(got.body, "data: [DONE]\n\n") {
			t.Errorf("%s: the stream ends in %q", tt.name, got.body[max(0, len(got.body)-40):])
		}
		if has := strings.Contains(got.body, `"choices":[],`); has != tt.usage {
			t.Errorf("%s: usage event: %v, want %v", tt.name, has, tt.usage)
		}
		rec := r.settled(i + 1)[i]
		if rec.Outcome != ledger.OK || rec.Source != ledger.Exact || rec.Tokens.Output != 5 || !rec.Stream {
			t.Errorf("%s: ledger %+v", tt.name, rec)
		}
	}
	if got := r.do(http.MethodPost, "/v1/completions", tests[3].body).header.Get("X-Weir-Model"); got != "m" {
		t.Errorf("an alias was served: x-weir-model %q, want m", got)
	}
}
