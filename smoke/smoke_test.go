package smoke

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "sk-canary-0123456789"

// outcomes runs all checks against a server, and answers what each has found.
func outcomes(t *testing.T, serve http.HandlerFunc) (ok bool, all map[string]Result) {
	t.Helper()
	server := httptest.NewServer(serve)
	defer server.Close()
	client := server.Client()
	defer client.CloseIdleConnections()
	all = map[string]Result{}
	ok = Run(t.Context(), Options{URL: server.URL + "/v1/", Key: secret, Timeout: 300 * time.Millisecond, Client: client}, func(r Result) { all[r.Check] = r })
	if len(all) != len(checks) {
		t.Errorf("%d results of %d checks", len(all), len(checks))
	}
	for name, r := range all {
		if strings.Contains(r.Says, secret) || strings.ContainsAny(r.Says, "\x1b\n") {
			t.Errorf("%s says %q", name, r.Says)
		}
	}
	return ok, all
}

// A server that does everything wrong, each in its own way.
func TestFaultsAreFound(t *testing.T) {
	ok, got := outcomes(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.URL.Path == "/v1/models" && r.Header.Get("Authorization") == "Bearer "+secret:
			fmt.Fprint(w, `{"object":"list","data":[{"id":"m","context_length":50}]}`)
		case r.URL.Path == "/v1/models" && r.Header.Get("Authorization") != "":
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprintf(w, `{"error":{"message":"not your key: %s"}}`, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		case r.URL.Path == "/v1/models":
			fmt.Fprint(w, `{}`)
		case r.URL.Path == "/v1/key":
			fmt.Fprintf(w, `{"id":"k","secret":"%s"}`, secret)
		case r.URL.Path == "/health":
			select {
			case <-r.Context().Done():
			case <-time.After(5 * time.Second):
			}
		case strings.Contains(string(body), `"stream":true`):
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "data: {\"choices\":[]}\n\n")
		case strings.Contains(string(body), "hello in"):
			fmt.Fprint(w, `{"choices":[{"message":{"role":"assistant"}}]}`)
		case strings.Contains(string(body), " a a a"):
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"error":{"message":"too long","type":"x","code":null}}`)
		default:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprintf(w, "\x1b[2Jnot %s\nfound", secret)
		}
	})
	if ok {
		t.Error("all is said to be well")
	}
	for name, want := range map[string]string{
		"health": "no answer within 300ms", "answer": "its usage", "stream": "broke off after 1 events, without [DONE]", "own key": "shows the secret",
		"context limit": "want context_length_exceeded", "wrong key": "repeats the whole key", "no key": "want status 401, got 200",
		"bad JSON": "want status 400, got 404", "unknown model": "an error in OpenAI's shape", "unknown path": "an error in OpenAI's shape",
	} {
		if r := got[name]; r.Outcome != Failed || !strings.Contains(r.Says, want) {
			t.Errorf("%s: %s, %q, want %q", name, r.Outcome, r.Says, want)
		}
	}
	if got["models"].Outcome != OK {
		t.Errorf("models: %+v", got["models"])
	}
}

// What cannot be tried is skipped, where nobody answers everything has failed.
func TestSkipped(t *testing.T) {
	ok, got := outcomes(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
	})
	for _, name := range []string{"answer", "stream", "context limit"} {
		if got[name].Outcome != Skipped {
			t.Errorf("%s: %+v", name, got[name])
		}
	}
	if ok || got["models"].Outcome != Failed {
		t.Errorf("models: %+v", got["models"])
	}
}
