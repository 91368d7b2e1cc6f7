package e2e

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	chatOrigin  = "https://chat.example.org"
	otherOrigin = "https://other.example.org"
)

// preflight asks as a browser does before it sends a request with a key.
func (r *rig) preflight(origin, path, method string) reply {
	r.t.Helper()
	return r.do(http.MethodOptions, path, "", "Authorization", "", "Content-Type", "", "Origin", origin,
		"Access-Control-Request-Method", method, "Access-Control-Request-Headers", "authorization,content-type,x-stainless-lang")
}

// TestCORS calls from web pages of several origins.
func TestCORS(t *testing.T) {
	t.Parallel()
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Access-Control-Allow-Origin", "*") // as vLLM does
		w.Header().Set("Access-Control-Allow-Credentials", "true")
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}`)
	})
	r := start(t, fixture{
		upstream: answer, extra: "cors: {origins: [\"" + chatOrigin + "\", \"http://localhost:3000\"]}\n",
		limits: "  - {name: once, per: [key], requests: 1/h}\n",
	})
	for _, path := range []string{"/v1/chat/completions", "/v1/messages", "/v1/models", "/v1/key", "/health"} {
		got := r.preflight(chatOrigin, path, http.MethodPost)
		if got.status != http.StatusOK || got.header.Get("Access-Control-Allow-Origin") != chatOrigin ||
			!strings.Contains(got.header.Get("Access-Control-Allow-Methods"), "POST") || got.header.Get("Access-Control-Max-Age") == "" {
			t.Errorf("preflight of %s: status %d, %v", path, got.status, got.header)
		}
		for _, want := range []string{"authorization", "content-type", "x-stainless-lang", "x-api-key", "anthropic-version"} {
			if !strings.Contains(got.header.Get("Access-Control-Allow-Headers"), want) {
				t.Errorf("preflight of %s does not allow %s", path, want)
			}
		}
		if got := r.preflight(otherOrigin, path, http.MethodPost); got.status == http.StatusNoContent || got.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("preflight of %s from elsewhere: status %d, %v", path, got.status, got.header)
		}
	}
	from := func(origin, method, path, body string, headers ...string) reply {
		t.Helper()
		return r.do(method, path, body, append(headers, "Origin", origin)...)
	}
	for _, c := range []struct {
		what string
		got  reply
		want int
	}{
		{"an answer", from(chatOrigin, http.MethodPost, "/v1/chat/completions", chat()), http.StatusOK},
		{"a limit", from(chatOrigin, http.MethodPost, "/v1/chat/completions", chat()), http.StatusTooManyRequests},
		{"the same before its body is read", from(chatOrigin, http.MethodPost, "/v1/chat/completions", chat()), http.StatusTooManyRequests},
		{"no key", from(chatOrigin, http.MethodPost, "/v1/chat/completions", chat(), "Authorization", ""), http.StatusUnauthorized},
		{"a wrong key", from(chatOrigin, http.MethodPost, "/v1/chat/completions", chat(), "Authorization", "Bearer sk-wrong"), http.StatusUnauthorized},
		{"no JSON", from(chatOrigin, http.MethodPost, "/v1/chat/completions", "{", "Authorization", "Bearer "+otherKey), http.StatusBadRequest},
		{"no such path", from(chatOrigin, http.MethodGet, "/v1/files", ""), http.StatusNotFound},
		{"no such method", from(chatOrigin, http.MethodGet, "/v1/embeddings", ""), http.StatusMethodNotAllowed},
		{"too large", from(chatOrigin, http.MethodPost, "/v1/chat/completions", strings.Repeat(" ", 9<<20)), http.StatusRequestEntityTooLarge},
		{"models", from(chatOrigin, http.MethodGet, "/v1/models", ""), http.StatusOK},
		{"another origin of the list", from("http://localhost:3000", http.MethodGet, "/health", ""), http.StatusOK},
	} {
		want := chatOrigin
		if strings.Contains(c.what, "another") {
			want = "http://localhost:3000"
		}
		if h := c.got.header; c.got.status != c.want || len(h.Values("Access-Control-Allow-Origin")) != 1 || h.Get("Access-Control-Allow-Origin") != want ||
			h.Get("Access-Control-Allow-Credentials") != "" || !strings.Contains(h.Get("Access-Control-Expose-Headers"), "x-ratelimit-remaining-requests") {
			t.Errorf("%s: status %d, %v", c.what, c.got.status, h)
		}
	}
	if got := from(otherOrigin, http.MethodGet, "/v1/models", ""); got.status != http.StatusOK || got.header.Get("Access-Control-Allow-Origin") != "" || got.header.Get("Vary") != "origin" {
		t.Errorf("from elsewhere: status %d, %v", got.status, got.header)
	}
	// Other origins, while it runs.
	file := filepath.Join(r.Dir, "weir.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, file, strings.Replace(string(text), `"`+chatOrigin+`", "http://localhost:3000"`, `"*"`, 1))
	r.eventually("every origin may call", func() bool {
		return r.preflight(otherOrigin, "/v1/models", http.MethodGet).header.Get("Access-Control-Allow-Origin") == otherOrigin
	})
}

// TestNoCORS keeps browsers out where nothing is said of them, whatever the upstream
// answers.
func TestNoCORS(t *testing.T) {
	t.Parallel()
	stream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"}}]}\n\ndata: [DONE]\n\n")
	})
	r := start(t, fixture{upstream: stream})
	if got := r.preflight(chatOrigin, "/v1/chat/completions", http.MethodPost); got.status != http.StatusMethodNotAllowed || got.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a preflight: status %d, %v", got.status, got.header)
	}
	resp, err := r.send(t.Context(), http.MethodPost, "/v1/chat/completions", chat(`"stream":true`), "Origin", chatOrigin)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(bufio.NewReader(resp.Body)); err != nil {
		t.Error(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("status %d, %v", resp.StatusCode, resp.Header)
	}
}
