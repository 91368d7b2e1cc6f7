package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestBadInput sends what must not get through. Each is answered with a clear
// error in OpenAI's shape, and the upstream hears of none.
func TestBadInput(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{extra: "envoy: {max_request_bytes: 8388608}", keys: `
  - {id: narrow, secret: sk-test-narrow-0123456789, models: [none], endpoints: [/v1/chat/completions]}
  - {id: far, secret: sk-test-far-0123456789, cidrs: [10.0.0.0/8]}
  - {id: off, secret: sk-test-off-0123456789, enabled: false}
  - {id: past, secret: sk-test-past-0123456789, expires: "2020-01-01T00:00:00Z"}
`})
	const chatPath = "/v1/chat/completions"
	deep := strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)
	tests := []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		code, says               string
		noID                     bool // refused before Envoy gives ids
	}{
		{name: "duplicate member", body: `{"model":"m","model":"x","messages":[]}`, status: 400, says: "Duplicate parameter 'model' at byte 13"},
		{name: "member in another case", body: `{"Model":"m","messages":[]}`, status: 400, says: "not written as 'model'"},
		{name: "member with an escape", body: `{"mod\u0065l":"m","messages":[]}`, status: 400, says: "not written as 'model'"},
		{name: "byte order mark", body: "\ufeff" + chat(), status: 400, says: "byte order mark"},
		{name: "UTF-16", body: "\xff\xfe{\x00}\x00", status: 400, says: "not valid UTF-8"},
		{name: "truncated", body: `{"model":"m","messages":[{"role":"us`, status: 400, says: "The JSON ends inside"},
		{name: "trailing text", body: chat() + "x", status: 400, says: "more text after the JSON object"},
		{name: "two objects", body: chat() + chat(), status: 400, says: "more text after the JSON object"},
		{name: "deep", body: `{"model":"m","messages":` + deep + `}`, status: 400, says: "128"},
		{name: "10 MB", body: `{"model":"m","messages":["` + strings.Repeat("x", 10<<20) + `"]}`, status: 413, code: "request_too_large", says: "larger than"},
		{name: "no body", body: "", status: 400, says: "body is empty"},
		{name: "an array", body: "[]", status: 400, says: "must be a JSON object"},
		{name: "stream is a string", body: chat(`"stream":"true"`), status: 400, says: "'stream'"},
		{name: "stream is a number", body: chat(`"stream":1`), status: 400, says: "'stream'"},
		{name: "max_tokens is a string", body: chat(`"max_tokens":"5"`), status: 400, says: "'max_tokens'"},
		{name: "max_tokens is 0", body: chat(`"max_tokens":0`), status: 400, says: "'max_tokens'"},
		{name: "max_tokens is negative", body: chat(`"max_tokens":-1`), status: 400, says: "'max_tokens'"},
		{name: "max_tokens is huge", body: chat(`"max_tokens":1e99`), status: 400, says: "'max_tokens'"},
		{name: "n is a fraction", body: chat(`"n":1.5`), status: 400, says: "'n'"},
		{name: "include_usage is a string", body: chat(`"stream":true`, `"stream_options":{"include_usage":"yes"}`), status: 400, says: "include_usage"},
		{name: "model is a number", body: `{"model":1,"messages":[]}`, status: 400, says: "'model'"},
		{name: "messages are missing", body: `{"model":"m"}`, status: 400, code: "missing_required_parameter", says: "'messages'"},
		{name: "a prompt for a chat", body: `{"model":"m","prompt":"x"}`, status: 400, code: "missing_required_parameter", says: "'messages'"},
		{name: "unknown model", body: `{"model":"gpt-9","messages":[]}`, status: 404, code: "model_not_found", says: "gpt-9"},
		{name: "no model and no default", body: `{"messages":[]}`, status: 400, code: "missing_required_parameter", says: "model"},
		{name: "compressed", body: chat(), headers: []string{"Content-Encoding", "gzip"}, status: 415, says: "Compressed"},

		{name: "no key", body: chat(), headers: []string{"Authorization", ""}, status: 401, says: "didn't provide an API key"},
		{name: "bad key", body: chat(), headers: []string{"Authorization", "Bearer sk-nobody-0123456789"}, status: 401, code: "invalid_api_key", says: "sk-…6789"},
		{name: "a key in the query", path: chatPath + "?api_key=" + goodKey, body: chat(), headers: []string{"Authorization", ""}, status: 401},
		{name: "basic authorization", body: chat(), headers: []string{"Authorization", "Basic " + goodKey}, status: 401},
		{name: "empty bearer", body: chat(), headers: []string{"Authorization", "Bearer "}, status: 401},
		{name: "two keys that differ", body: chat(), headers: []string{"X-Api-Key", otherKey}, status: 401, says: "two different API keys"},
		{name: "a spoofed caller", body: chat(), headers: []string{"Authorization", "", "X-Weir-Key", "good"}, status: 401},
		{name: "a spoofed cluster", body: `{"model":"gpt-9","messages":[]}`, headers: []string{"X-Weir-Cluster", "upstream_sim"}, status: 404, code: "model_not_found"},
		{name: "a disabled key", body: chat(), headers: []string{"Authorization", "sk-test-off-0123456789"}, status: 401, code: "invalid_api_key"},
		{name: "an expired key", body: chat(), headers: []string{"Authorization", "sk-test-past-0123456789"}, status: 401, code: "invalid_api_key"},
		{name: "a key from elsewhere", body: chat(), headers: []string{"Authorization", "sk-test-far-0123456789"}, status: 403, says: "from this address"},
		{name: "a forwarded address", body: chat(), headers: []string{"Authorization", "sk-test-far-0123456789", "X-Forwarded-For", "10.1.2.3"}, status: 403},
		{name: "another key's model", body: chat(), headers: []string{"Authorization", "sk-test-narrow-0123456789"}, status: 404, code: "model_not_found"},
		{name: "another endpoint", path: "/v1/completions", body: `{"model":"m","prompt":""}`, headers: []string{"Authorization", "sk-test-narrow-0123456789"}, status: 403, says: "/v1/completions"},

		{name: "GET", method: http.MethodGet, status: 405},
		{name: "PUT", method: http.MethodPut, body: chat(), status: 405},
		{name: "DELETE", method: http.MethodDelete, status: 405},
		{name: "POST to the models", path: "/v1/models", body: "{}", status: 405},
		{name: "another path", path: "/v1/images/generations", body: chat(), status: 404, code: "unknown_url"},
		{name: "vLLM's own paths", path: "/v1/load_lora_adapter", body: chat(), status: 404, code: "unknown_url"},
		{name: "the metrics", method: http.MethodGet, path: "/metrics", status: 404, code: "unknown_url"},
		{name: "the admin API", path: "/weir.admin.v1.KeysService/List", body: "{}", headers: []string{"Authorization", "Bearer " + adminToken}, status: 404, code: "unknown_url"},
		{name: "an older admin path", path: "/admin/reload-keys", headers: []string{"Authorization", "Bearer " + adminToken}, status: 404, code: "unknown_url"},
		{name: "Envoy's admin", method: http.MethodGet, path: "/config_dump", status: 404, code: "unknown_url"},
		{name: "weir's own sockets", method: http.MethodGet, path: "/limits", status: 404, code: "unknown_url"},
		{name: "a trailing slash", path: chatPath + "/", body: chat(), status: 404, code: "unknown_url"},
		{name: "a path below", path: chatPath + "/batch", body: chat(), status: 404, code: "unknown_url"},
		{name: "another case", path: "/V1/chat/completions", body: chat(), status: 404, code: "unknown_url"},
		{name: "an escaped slash", noID: true, path: "/v1%2fchat/completions", body: chat(), status: 400},
		{name: "a matrix parameter", path: chatPath + ";a=b", body: chat(), status: 404, code: "unknown_url"},
		{name: "dots that leave", path: "/v1/../metrics", body: chat(), status: 404, code: "unknown_url"},
		{name: "a header with an underscore", noID: true, body: chat(), headers: []string{"X_Weir_Key", "good"}, status: 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			method, path := tt.method, tt.path
			if method == "" {
				method = http.MethodPost
			}
			if path == "" {
				path = chatPath
			}
			got := r.do(method, path, tt.body, tt.headers...)
			e := got.errorObject()
			if got.status != tt.status || got.code() != tt.code && tt.code != "" || !strings.Contains(e.Message, tt.says) {
				t.Errorf("status %d, %s; want %d, code %q, saying %q", got.status, got.body, tt.status, tt.code, tt.says)
			}
			if e.Type == "" || e.Message == "" || strings.HasPrefix(e.Message, "not an error") {
				t.Errorf("not in OpenAI's shape: %s", got.body)
			}
			if got.header.Get("Content-Type") != "application/json" || (got.header.Get("X-Request-Id") == "") != tt.noID || got.header.Get("X-Weir-Error-Source") != "gateway" {
				t.Errorf("headers %v", got.header)
			}
			if tt.status == 401 && got.code() == "" && got.header.Get("Www-Authenticate") != "Bearer" {
				t.Errorf("no www-authenticate: %v", got.header)
			}
			if tt.status == 405 && got.header.Get("Allow") == "" {
				t.Errorf("no allow: %v", got.header)
			}
		})
	}
	if n := r.sim.Ledger().Len(); n != 0 {
		t.Errorf("%d requests reached the upstream", n)
	}
	if got := r.post(chat()); got.status != http.StatusOK {
		t.Errorf("a good request after all that: status %d", got.status)
	}
}

// TestKeyForms sends one key in each of the ways that clients have.
func TestKeyForms(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{})
	for _, headers := range [][]string{
		{"Authorization", "Bearer " + goodKey},
		{"Authorization", "bearer " + goodKey},
		{"Authorization", goodKey},
		{"Authorization", "", "X-Api-Key", goodKey},
		{"Authorization", "", "Api-Key", goodKey},
		{"Authorization", "Bearer  " + goodKey + " ", "X-Api-Key", goodKey},
	} {
		if got := r.post(chat(), headers...); got.status != http.StatusOK {
			t.Errorf("%v: status %d, %s", headers, got.status, got.body)
		}
	}
}

// TestRawRequests sends bytes that no HTTP library sends.
func TestRawRequests(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{})
	body := chat()
	head := func(lines ...string) string {
		return "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
	}
	auth, length := "Authorization: Bearer "+goodKey, fmt.Sprintf("Content-Length: %d", len(body))
	tests := map[string]struct {
		raw    string
		status string
	}{
		"two Authorization headers": {head(auth, "Authorization: Bearer "+otherKey, length) + body, "401"},
		"length and chunked":        {head(auth, length, "Transfer-Encoding: chunked") + "0\r\n\r\n", "400"},
		"two lengths":               {head(auth, length, "Content-Length: 5") + body, "400"},
		"absolute form":             {"GET http://other/metrics HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		"CONNECT":                   {"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
		"an upgrade":                {head(auth, length, "Connection: Upgrade", "Upgrade: websocket") + body, "400"},
		"not HTTP":                  {"hello\r\n\r\n", "400"},
		"NUL in the path":           {"GET /v1/mod\x00els HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := rawStatus(t, r.URL, tt.raw); got != tt.status {
				t.Errorf("status %s, want %s", got, tt.status)
			}
		})
	}
	for _, e := range r.sim.Ledger().Entries() {
		t.Errorf("a request reached the upstream: %v", e.Header)
	}
}

// rawStatus sends bytes and returns the status that comes back.
func rawStatus(t *testing.T, url, raw string) string {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte(raw)); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	fields := strings.Fields(line)
	if len(fields) < 2 {
		t.Fatalf("no status line: %q", line)
	}
	return fields[1]
}
