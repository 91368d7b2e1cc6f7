package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/weir-gateway/weir/ledger"
	"github.com/weir-gateway/weir/simulator"
)

const (
	embeddings  = "/v1/embeddings"
	rerank      = "/v1/rerank"
	score       = "/v1/score"
	responses   = "/v1/responses"
	messages    = "/v1/messages"
	countTokens = "/v1/messages/count_tokens"
)

// asking is the body of a request, of the model that answers to that name.
func asking(model, members string) string { return `{"model":"` + model + `",` + members + `}` }

const said = `"messages":[{"role":"user","content":"say something about ` + promptCanary + ` please"}]`

// TestEndpointsCount compares what weir counted with what the upstream did, and what
// the client got with what the upstream sent.
func TestEndpointsCount(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{
		model: "tokens=7", limits: "  - {name: key-tpm, per: [key], tokens: 1000000/m}\n",
		models: "  - {name: own, upstreams: [sim], served_as: {sim: m}, max_output: 64, rewrite_response: true}\n",
	})
	const input = `"input":"say something about ` + promptCanary + ` please"`
	tests := []struct{ path, members, want string }{
		{embeddings, input, `"object":"embedding"`},
		{embeddings, `"input":["a b","` + promptCanary + `"],"encoding_format":"base64"`, `"embedding":"`},
		{rerank, `"query":"what is ` + promptCanary + `","documents":["an instrument","a bird"]`, `"relevance_score":`},
		{score, `"text_1":"what is ` + promptCanary + `","text_2":["an instrument","a bird"]`, `"object":"score"`},
		{responses, input, `"output_tokens":7`},
		{responses, input + `,"stream":true,"instructions":"be kind"`, `"type":"response.completed"}`},
		{responses, input + `,"stream":true,"max_output_tokens":3`, `"status":"incomplete"`},
		{messages, said + `,"max_tokens":20`, `"stop_reason":"end_turn"`},
		{messages, said + `,"max_tokens":4,"stream":true`, `{"type":"message_stop"}`},
		{messages, said + `,"max_tokens":20,"stream":true,"system":"be kind"`, `"output_tokens":7}`},
		{countTokens, said, `"original_input_tokens":`},
	}
	n := 0
	for _, tt := range tests {
		for _, model := range []string{"m", "own"} {
			got := r.do(http.MethodPost, tt.path, asking(model, tt.members))
			n++
			rec, entry := r.settled(n)[n-1], r.entry(n)
			name := tt.path + " " + tt.members + " of " + model
			if got.status != http.StatusOK || !strings.Contains(got.body, tt.want) {
				t.Errorf("%s: status %d, body %s", name, got.status, got.body)
			}
			if strings.Contains(got.body, `"model":"`) != (tt.path != countTokens) || strings.Contains(got.body, `"model":"m"`) != (model == "m" && tt.path != countTokens) {
				t.Errorf("%s: the answer names the model otherwise: %s", name, got.body)
			}
			want := ledger.Tokens{Input: entry.Prompt, Output: entry.Completion}
			source := ledger.Exact
			if tt.path == countTokens {
				source = ledger.Missing
			}
			if rec.Tokens != want || rec.Source != source || rec.Outcome != ledger.OK || rec.Model != model || rec.ServedModel != model || rec.Stream != strings.Contains(tt.members, `"stream":true`) {
				t.Errorf("%s: ledger %+v, want tokens %+v", name, rec, want)
			}
			if entry.Model != "m" || entry.Header.Get("Content-Length") == "" {
				t.Errorf("%s: the upstream was asked for %q", name, entry.Model)
			}
			// Streams pass as they come; only the model's name may be another.
			if strings.Contains(tt.members, `"stream":true`) && strings.Contains(got.body, `"error"`+":{") {
				t.Errorf("%s: the stream has an error: %s", name, got.body)
			}
		}
	}
	if used := r.used("key-tpm"); used != r.sim.Ledger().Totals().Prompt+r.sim.Ledger().Totals().Completion {
		t.Errorf("the limit has counted %d tokens, the upstream %+v", used, r.sim.Ledger().Totals())
	}
}

// entry is what the upstream notes of the request with that number, from 1.
func (r *rig) entry(n int) simulator.Entry {
	r.t.Helper()
	var entries []simulator.Entry
	r.eventually(fmt.Sprintf("%d requests ended at the upstream", n), func() bool {
		entries = r.sim.Ledger().Entries()
		return len(entries) >= n && entries[n-1].Outcome != ""
	})
	return entries[n-1]
}

// used is where a limit of the good key stands.
func (r *rig) used(limit string) int64 {
	r.t.Helper()
	return r.usedBy("good", limit)
}

// usedBy is where a limit of a key stands.
func (r *rig) usedBy(key, limit string) int64 {
	r.t.Helper()
	var v struct {
		Limits []struct {
			Limit string
			Used  int64
		}
	}
	text := r.overSocket("ops.sock", "/limits?key="+key)
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		r.t.Fatalf("%v: %s", err, text)
	}
	for _, l := range v.Limits {
		if l.Limit == limit {
			return l.Used
		}
	}
	r.t.Fatalf("no limit %s: %s", limit, text)
	return 0
}

// TestEndpointsReachTheUpstream shows what is written into requests: a limit where
// there is none, in the endpoint's own words, and nothing else.
func TestEndpointsReachTheUpstream(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{models: "  - {name: own, upstreams: [sim], served_as: {sim: m}, max_output: 64}\n"})
	tests := []struct{ path, body, want string }{
		{embeddings, `{"model":"own","input":[1, 2],"x":{"a":1e5}}`, `{"model":"m","input":[1, 2],"x":{"a":1e5}}`},
		{responses, `{"model":"own","input":"x","stream":true}`, `{"max_output_tokens":64,"model":"m","input":"x","stream":true}`},
		{messages, `{"model":"m","max_tokens":9,"stream":true,` + said + `}`, `{"model":"m","max_tokens":9,"stream":true,` + said + `}`},
		{countTokens, `{` + said + `,"model":"own"}`, `{` + said + `,"model":"m"}`},
	}
	for i, tt := range tests {
		got := r.do(http.MethodPost, tt.path, tt.body, "Anthropic-Version", "2023-06-01", "Anthropic-Beta", "b", "Authorization", "", "X-Api-Key", goodKey)
		if got.status != http.StatusOK {
			t.Fatalf("%s: status %d, body %s", tt.path, got.status, got.body)
		}
		e := r.entry(i + 1)
		if string(e.Body) != tt.want {
			t.Errorf("%s: the upstream got %s\nwant %s", tt.path, e.Body, tt.want)
		}
		if e.Header.Get("Anthropic-Version") != "2023-06-01" || e.Header.Get("Anthropic-Beta") != "b" || e.Header.Get("X-Api-Key") != "" || e.Auth != upstreamSecret[len(upstreamSecret)-4:] {
			t.Errorf("%s: the upstream got the headers %v", tt.path, e.Header)
		}
	}
}

// TestEndpointsLimits: embeddings reserve and take input only, and counting tokens
// takes a request and no tokens.
func TestEndpointsLimits(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{limits: "  - {name: in, per: [key], input_tokens: 40/h}\n  - {name: out, per: [key], output_tokens: 10/h}\n  - {name: rpm, per: [key], requests: 8/h}\n"})
	const twenty = `"input":"a b c d e f g h i j k l m n o p q r s t"`
	if got := r.do(http.MethodPost, embeddings, asking("m", twenty)); got.status != http.StatusOK {
		t.Fatalf("the first embedding: status %d, body %s", got.status, got.body)
	}
	got := r.do(http.MethodPost, embeddings, asking("m", twenty))
	if e := got.errorObject(); got.status != http.StatusTooManyRequests || e.Weir.Limit != "in" || e.Weir.Used != 20 || e.Weir.Max != 40 {
		t.Errorf("the second embedding: status %d, error %+v", got.status, e)
	}
	for i := range 6 {
		if got := r.do(http.MethodPost, countTokens, asking("m", said)); got.status != http.StatusOK {
			t.Fatalf("count %d: status %d, body %s", i, got.status, got.body)
		}
	}
	if got := r.do(http.MethodPost, messages, asking("m", said+`,"max_tokens":11`)); got.status != http.StatusTooManyRequests || got.header.Get("X-Should-Retry") != "false" {
		t.Errorf("a message that may be longer than the limit: status %d, headers %v", got.status, got.header)
	}
	r.settled(9)
	if in, out, requests := r.used("in"), r.used("out"), r.used("rpm"); in != 20 || out != 0 || requests != 7 {
		t.Errorf("used: %d input, %d output, %d requests", in, out, requests)
	}
	r.do(http.MethodPost, countTokens, asking("m", said))
	if got := r.do(http.MethodPost, countTokens, asking("m", said)); got.status != http.StatusTooManyRequests || !strings.Contains(got.body, `"type":"rate_limit_error"`) {
		t.Errorf("one count too many: status %d, body %s", got.status, got.body)
	}
}

// TestLargeEmbeddings counts an answer of several megabytes, of which nothing is kept.
func TestLargeEmbeddings(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{})
	got := r.do(http.MethodPost, embeddings, asking("m", `"input":["a b","c","d e f"],"dimensions":150000`))
	if got.status != http.StatusOK || len(got.body) < 6<<20 || !json.Valid([]byte(got.body)) {
		t.Fatalf("status %d, %d bytes", got.status, len(got.body))
	}
	if rec := r.settled(1)[0]; rec.Tokens.Input != 6 || rec.Source != ledger.Exact {
		t.Errorf("ledger %+v", rec)
	}
}

// TestEndpointsFail: refusals, errors of the upstream and broken streams, each in the
// dialect of what was asked.
func TestEndpointsFail(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{
		model: "tokens=20,pace=1ms",
		keys:  "  - {id: narrow, secret: sk-test-narrow-0123456789, endpoints: [/v1/embeddings]}\n",
	})
	const message = said + `,"max_tokens":20`
	tests := []struct {
		name, path, body, script string
		headers                  []string
		status                   int
		kind                     string
	}{
		{name: "no key", path: messages, body: asking("m", message), headers: []string{"Authorization", ""}, status: 401, kind: "authentication_error"},
		{name: "wrong key", path: countTokens, body: asking("m", said), headers: []string{"Authorization", "", "X-Api-Key", "sk-wrong-0123456789"}, status: 401, kind: "authentication_error"},
		{name: "an endpoint that is not the key's", path: messages, body: asking("m", message), headers: []string{"Authorization", "sk-test-narrow-0123456789"}, status: 403, kind: "permission_error"},
		{name: "no max_tokens", path: messages, body: asking("m", said), status: 400, kind: "invalid_request_error"},
		{name: "no JSON", path: messages, body: "x", status: 400, kind: "invalid_request_error"},
		{name: "no body", path: messages, body: "", status: 400, kind: "invalid_request_error"},
		{name: "unknown model", path: messages, body: asking("nope", message), status: 404, kind: "not_found_error"},
		{name: "unknown path", path: messages + "/batches", body: asking("m", message), status: 404, kind: "not_found_error"},
		{name: "too large", path: messages, body: asking("m", message+`,"x":"`+strings.Repeat("x", 10<<20)+`"`), status: 413, kind: "request_too_large"},
		{name: "upstream refuses", path: messages, body: asking("m", message), script: "fail=status:400", status: 400, kind: "invalid_request_error"},
		{name: "upstream is busy", path: messages, body: asking("m", message), script: "fail=status:503", status: 503, kind: "overloaded_error"},
		{name: "upstream fails", path: countTokens, body: asking("m", said), script: "fail=status:500", status: 502, kind: "api_error"},
		{name: "upstream breaks off", path: messages, body: asking("m", message), script: "fail=drop", status: 502, kind: "api_error"},
		{name: "no upstream", path: messages, body: asking("dead", message), status: 503, kind: "overloaded_error"},
	}
	for _, tt := range tests {
		got := r.do(http.MethodPost, tt.path, tt.body, append(tt.headers, "X-Simulate", tt.script)...)
		var v struct {
			Type      string
			Error     struct{ Type, Message string }
			RequestID string `json:"request_id"`
		}
		if err := json.Unmarshal([]byte(got.body), &v); err != nil || got.status != tt.status || v.Type != "error" || v.Error.Type != tt.kind || v.Error.Message == "" {
			t.Errorf("%s: status %d, body %s, want %d %s", tt.name, got.status, got.body, tt.status, tt.kind)
		}
		unrouted := tt.name == "unknown path" || tt.name == "too large" // Envoy answers by itself, and the id is in the header only
		if id := got.header.Get("X-Request-Id"); id == "" || !unrouted && (v.RequestID != id || got.header.Get("Request-Id") != id) {
			t.Errorf("%s: request ids %q in the body, header %v", tt.name, v.RequestID, got.header)
		}
	}
	if got := r.do(http.MethodGet, messages, ""); got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") != "POST" || !strings.HasPrefix(got.body, `{"type":"error"`) {
		t.Errorf("GET: status %d, body %s", got.status, got.body)
	}
	for _, path := range []string{"/rerank", "/v2/rerank", "/v1/responses/resp_1", "/v1/audio/speech", "/v1/embeddings/", "/v1/messages%2Fcount_tokens"} {
		if got := r.do(http.MethodPost, path, asking("m", message)); got.status != http.StatusNotFound && got.status != http.StatusBadRequest {
			t.Errorf("%s: status %d, body %s", path, got.status, got.body)
		}
	}
	for _, path := range []string{embeddings, rerank, score, responses} {
		if got := r.do(http.MethodPost, path, `{"model":"m"}`); got.status != http.StatusBadRequest || got.code() != "missing_required_parameter" {
			t.Errorf("%s: status %d, body %s", path, got.status, got.body)
		}
	}
	if got := r.do(http.MethodPost, responses, asking("m", `"input":"x","background":true`)); got.status != http.StatusBadRequest || !strings.Contains(got.body, "in the background") {
		t.Errorf("in the background: status %d, body %s", got.status, got.body)
	}
}

// TestBrokenStreams: an answer that ends before it is complete ends in an error that
// its client understands, and is counted by what was seen.
func TestBrokenStreams(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{model: "tokens=20"})
	const cutMessage = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"The upstream server ended the answer before it was complete.\"}}\n\n"
	tests := []struct {
		path, members, script, want string
		exact                       bool
	}{
		{messages, said + `,"max_tokens":50`, "fail=end:5", cutMessage, false},
		{responses, `"input":"hi"`, "fail=end:5", `"error":{"message":"The upstream server ended the answer before it was complete."`, false},
		{messages, said + `,"max_tokens":50`, "fail=error:5", `{"type":"error","error":{"type":"internal_error"`, false},
		{responses, `"input":"hi"`, "fail=error:5", `"type":"response.failed"}`, false},
		{responses, `"input":"hi"`, "usage=never", `"type":"response.completed"}`, false},
		{messages, said + `,"max_tokens":50`, "usage=never", `{"type":"message_stop"}`, false},
		{messages, said + `,"max_tokens":50`, "done=no", `"output_tokens":20}`, true},
	}
	for i, tt := range tests {
		got := r.do(http.MethodPost, tt.path, asking("m", tt.members+`,"stream":true`), "X-Simulate", tt.script)
		if got.status != http.StatusOK || !strings.Contains(got.body, tt.want) {
			t.Errorf("%s, %s: status %d, ends in %q", tt.path, tt.script, got.status, got.body[max(0, len(got.body)-300):])
		}
		rec, entry := r.settled(i + 1)[i], r.entry(i+1)
		source := ledger.Estimated
		if tt.exact {
			source = ledger.Exact
		}
		if rec.Source != source || rec.Tokens.Output < entry.Completion*2/3 || rec.Tokens.Output > entry.Completion*3 || rec.Tokens.Input == 0 {
			t.Errorf("%s, %s: ledger %+v, the upstream %d and %d", tt.path, tt.script, rec, entry.Prompt, entry.Completion)
		}
		if failed := strings.HasPrefix(tt.script, "fail="); failed != (rec.Outcome == ledger.Cut) {
			t.Errorf("%s, %s: outcome %s", tt.path, tt.script, rec.Outcome)
		}
	}
}

// TestAbortedMessages: a client that leaves has its slot back, and is counted by what
// it was sent.
func TestAbortedMessages(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{model: "tokens=1000,pace=5ms", limits: "  - {name: slots, per: [key], concurrency: 1}\n"})
	for i, tt := range []struct{ path, members, event string }{
		{messages, said + `,"max_tokens":2000`, "content_block_delta"},
		{responses, `"input":"say something please"`, "response.output_text.delta"},
	} {
		ctx, leave := context.WithCancel(t.Context())
		resp, err := r.send(ctx, http.MethodPost, tt.path, asking("m", tt.members+`,"stream":true`))
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(resp.Body)
		for n := 0; n < 20 && lines.Scan(); {
			if lines.Text() == "event: "+tt.event {
				n++
			}
		}
		leave()
		resp.Body.Close()
		rec, entry := r.settled(i + 1)[i], r.entry(i+1)
		if rec.Outcome != ledger.Aborted || rec.Source != ledger.Estimated || rec.Tokens.Output < 19 || rec.Tokens.Output > 2*entry.Completion {
			t.Errorf("%s: ledger %+v, the upstream generated %d", tt.path, rec, entry.Completion)
		}
		if tt.path == messages && rec.Tokens.Input != entry.Prompt {
			t.Errorf("a message said at its start that its prompt has %d tokens, the ledger has %+v", entry.Prompt, rec)
		}
	}
}

// TestEndpointsOfPools has a pool of which only the last key works: every endpoint
// comes to it, and when none is left each says so in its own dialect.
func TestEndpointsOfPools(t *testing.T) {
	t.Parallel()
	spent := func(n int64) string {
		if n < 3 {
			return ""
		}
		return "fail=status:401"
	}
	r := pooled(t, fixture{}, "      retry: {keys: 3, tries: 3}\n", always("fail=status:401"), always("fail=status:403"), spent)
	audio, contentType := recordingOf(t, 2_000_000, "model", "p")
	for i, tt := range []struct{ path, body, contentType string }{
		{messages, asking("p", said+`,"max_tokens":9,"stream":true`), "application/json"},
		{embeddings, asking("p", `"input":"x"`), "application/json"},
		{transcriptions, audio, contentType},
	} {
		if got := r.do(http.MethodPost, tt.path, tt.body, "Content-Type", tt.contentType); got.status != http.StatusOK {
			t.Errorf("%s: status %d, body %s", tt.path, got.status, got.body)
		}
		rec := r.settled(i + 1)[i]
		if rec.UpstreamKeyID == "" || rec.Source != ledger.Exact || rec.Outcome != ledger.OK {
			t.Errorf("%s: ledger %+v", tt.path, rec)
		}
	}
	for range 2 {
		got := r.do(http.MethodPost, messages, asking("p", said+`,"max_tokens":9`))
		if got.status != http.StatusServiceUnavailable || !strings.HasPrefix(got.body, `{"type":"error","error":{"type":"overloaded_error"`) {
			t.Errorf("no key left: status %d, body %s", got.status, got.body)
		}
	}
}
