package upstream

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/upstream/pool"
)

func checkerOf(t *testing.T, h http.Handler, ca bool) *checker {
	t.Helper()
	server := httptest.NewTLSServer(h)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL + "/v1")
	if err != nil {
		t.Fatal(err)
	}
	up := config.Upstream{Name: "u", URL: u, Key: "sk-upstream-0123", Connect: time.Second}
	if ca {
		up.CAFile = filepath.Join(t.TempDir(), "ca.pem")
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		if err := os.WriteFile(up.CAFile, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := newServer(up)
	if err != nil {
		t.Fatal(err)
	}
	c, err := newChecker(s, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.client.CloseIdleConnections)
	return c
}

func TestModelsOfAServer(t *testing.T) {
	for name, tt := range map[string]struct {
		body, id string
		window   int64
		err      string
	}{
		"vLLM":       {`{"object":"list","data":[{"id":"m","max_model_len":4096}]}`, "m", 4096, ""},
		"llama.cpp":  {`{"data":[{"id":"gguf","meta":{"n_ctx":2048}}]}`, "gguf", 2048, ""},
		"OpenRouter": {`{"data":[{"id":"a/b","context_length":9}]}`, "a/b", 9, ""},
		"OpenAI":     {`{"data":[{"id":"gpt"},{"id":""}]}`, "gpt", 0, ""},
		"nothing":    {`{"data":[]}`, "", 0, "empty"},
		"a page":     {`<html>`, "", 0, "not OpenAI's"},
	} {
		var asked, auth string
		c := checkerOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked, auth = r.URL.Path, r.Header.Get("Authorization")
			_, _ = w.Write([]byte(tt.body))
		}), true)
		list, err := c.models(t.Context())
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: error %v, want %q", name, err, tt.err)
			}
			continue
		}
		if err != nil || len(list) != 1 || list[0].Name != tt.id || list[0].Context != tt.window {
			t.Errorf("%s: %v, %+v", name, err, list)
		}
		if asked != "/v1/models" || auth != "Bearer sk-upstream-0123" {
			t.Errorf("%s: asked for %s with %q", name, asked, auth)
		}
	}
}

func TestOddModelsOfAServer(t *testing.T) {
	var list strings.Builder
	list.WriteString(`{"data":[{"id":"a b"},{"id":"a\u0000"},{"id":"a\nb"},{"id":"` + strings.Repeat("x", 257) + `"},{"id":"\ud800"}`)
	for i := range 2 * maxModels {
		fmt.Fprintf(&list, `,{"id":"m%d","max_model_len":-1}`, i)
	}
	list.WriteString("]}")
	models, err := readModels([]byte(list.String()))
	if err != nil || len(models) != maxModels || models[0].Name != "m0" || models[0].Context != 0 {
		t.Errorf("%d models, %v; want the first %d whose names are sound", len(models), err, maxModels)
	}
}

func TestAlive(t *testing.T) {
	for status, want := range map[int]bool{200: true, 404: true, 401: true, 500: false, 503: false} {
		c := checkerOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/health" || r.Header.Get("Authorization") != "" {
				t.Errorf("asked for %s with %q", r.URL.Path, r.Header.Get("Authorization"))
			}
			w.WriteHeader(status)
		}), true)
		if got := c.alive(t.Context()); got != want {
			t.Errorf("status %d: alive %v, want %v", status, got, want)
		}
	}
	if checkerOf(t, http.NotFoundHandler(), false).alive(t.Context()) {
		t.Error("a certificate that nobody vouches for was taken")
	}
}

func TestProbe(t *testing.T) {
	for status, want := range map[int]pool.Class{200: pool.OK, 401: pool.Rejected, 402: pool.Unpaid, 500: pool.ServerError} {
		c := checkerOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer k" {
				t.Errorf("probed with %q", r.Header.Get("Authorization"))
			}
			w.WriteHeader(status)
		}), true)
		if got := c.probe(t.Context(), pool.Key{Secret: "k"}); got.Class != want {
			t.Errorf("status %d: %v, want %v", status, got.Class, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := checkerOf(t, http.NotFoundHandler(), true).probe(ctx, pool.Key{}); got.Class != pool.Aborted {
		t.Errorf("no answer: %v, want that nothing is learnt", got.Class)
	}
}
