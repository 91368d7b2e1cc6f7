package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/weir-gateway/weir/api/openapi/openapitest"
	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/gateway"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/telemetry"
	"github.com/weir-gateway/weir/upstream"
	"github.com/weir-gateway/weir/upstream/pool"
)

func newAPI(t *testing.T) *API {
	t.Helper()
	models, err := upstream.New(&config.Config{
		Upstreams: []config.Upstream{{Name: "u", URL: &url.URL{Scheme: "http", Host: "127.0.0.1:1"}}},
		Models: []config.Model{
			{Name: "qwen/qwen3-32b", Aliases: []string{"gpt-4o"}, Upstreams: []string{"u"}, Context: 131000},
			{Name: "llama", Upstreams: []string{"u"}},
		},
		DefaultModel: "llama",
	}, upstream.Options{})
	if err != nil {
		t.Fatal(err)
	}
	keys := keyring.Fixed(map[string]*keyring.Key{
		"a": {ID: "all", User: "ann", Previous: []time.Time{time.Now().Add(-time.Hour), time.Now().Add(time.Hour)}}, "b": {ID: "some", Models: []string{"qwen/*"}},
	})
	limits := func(_ context.Context, k *keyring.Key) ([]gateway.LimitUsage, error) {
		if k.ID == "some" {
			return nil, errors.New("the store is away")
		}
		return []gateway.LimitUsage{{Limit: "rpm", Scope: "key all", Unit: "requests", Window: "1m0s", Used: 3, Max: 10, Remaining: 7, Reset: time.Minute}}, nil
	}
	a, err := New(Options{Version: "test", Limits: limits, Models: models, Keys: keys, Metrics: telemetry.NewMetrics(), KeyHeader: "x-weir-key", Store: func() StoreHealth {
		return StoreHealth{Status: "ok", Kind: "memory", Replicas: 1}
	}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// get answers the status and the body of GET path.
func get(t *testing.T, a *API, path, key string) (int, map[string]any) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	r.Header.Set("x-weir-key", key)
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("GET %s: content type %q", path, got)
	}
	var body map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("GET %s: %v: %s", path, err, w.Body)
	}
	return w.Code, body
}

func TestModelsAreThoseOfTheKey(t *testing.T) {
	a := newAPI(t)
	for key, want := range map[string][]string{
		"all":  {"qwen/qwen3-32b", "gpt-4o", "llama"},
		"some": {"qwen/qwen3-32b", "gpt-4o"},
	} {
		code, body := get(t, a, "/v1/models", key)
		var got []string
		data, _ := body["data"].([]any)
		for _, m := range data {
			object, _ := m.(map[string]any)
			id, _ := object["id"].(string)
			got = append(got, id)
		}
		if diff := cmp.Diff(want, got); code != http.StatusOK || body["object"] != "list" || diff != "" {
			t.Errorf("key %s: status %d, object %v, ids (-want +got):\n%s", key, code, body["object"], diff)
		}
	}
}

func TestModel(t *testing.T) {
	a := newAPI(t)
	code, body := get(t, a, "/v1/models/qwen/qwen3-32b", "some")
	if code != http.StatusOK || body["id"] != "qwen/qwen3-32b" || body["context_length"] != 131000.0 || body["max_model_len"] != 131000.0 {
		t.Errorf("status %d, %v", code, body)
	}
	for _, tt := range []struct{ path, key string }{
		{"/v1/models/none", "all"}, {"/v1/models/llama", "some"}, {"/v1/models/", "all"},
	} {
		code, body := get(t, a, tt.path, tt.key)
		e, _ := body["error"].(map[string]any)
		if code != http.StatusNotFound || e["code"] != "model_not_found" || e["param"] != "model" {
			t.Errorf("%s with key %s: status %d, %v", tt.path, tt.key, code, body)
		}
	}
}

func TestKeyRevokedMeanwhile(t *testing.T) {
	if code, body := get(t, newAPI(t), "/v1/models", "gone"); code != http.StatusUnauthorized {
		t.Errorf("status %d, %v; want 401", code, body)
	}
}

func TestKey(t *testing.T) {
	a := newAPI(t)
	code, body := get(t, a, "/v1/key", "all")
	if code != http.StatusOK || body["object"] != "key" || body["id"] != "all" || body["user"] != "ann" || body["expires_at"] != nil {
		t.Errorf("status %d, %v", code, body)
	}
	if old, _ := body["old_secrets_until"].([]any); len(old) != 1 {
		t.Errorf("old secrets: %v, want the one that still works", old)
	}
	list, _ := body["limits"].([]any)
	if len(list) != 1 {
		t.Fatalf("limits: %v", list)
	}
	limit, _ := list[0].(map[string]any)
	resets, err := time.Parse(time.RFC3339, fmt.Sprint(limit["resets_at"]))
	if left := time.Until(resets); err != nil || left <= 0 || left > time.Minute || limit["used"] != 3.0 || limit["remaining"] != 7.0 || limit["max"] != 10.0 {
		t.Errorf("limit: %v (%v)", limit, err)
	}
	if code, body := get(t, a, "/v1/key", "some"); code != http.StatusServiceUnavailable {
		t.Errorf("without a store: status %d, %v", code, body)
	}
}

func TestHealth(t *testing.T) {
	a := newAPI(t)
	if code, body := get(t, a, "/health", ""); code != http.StatusOK || body["status"] != "ok" {
		t.Errorf("status %d, %v", code, body)
	}
	a.Drain()
	if code, body := get(t, a, "/health", ""); code != http.StatusServiceUnavailable || body["status"] != "draining" {
		t.Errorf("draining: status %d, %v; want 503", code, body)
	}
	if code, _ := get(t, a, "/health?live", ""); code != http.StatusOK {
		t.Errorf("draining, ?live: status %d, want 200", code)
	}
}

// words are the status of health and of its upstreams.
func words(t *testing.T, a *API) (code int, all []string) {
	t.Helper()
	code, body := get(t, a, "/health", "")
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	var h health
	if err := json.Unmarshal(text, &h); err != nil {
		t.Fatal(err)
	}
	all = []string{h.Status}
	for _, u := range h.Parts.Upstreams {
		word := string(u.Status)
		if u.KeyFile != nil && u.KeyFile.Status != "ok" {
			word += " " + u.KeyFile.Status + " " + u.KeyFile.Place
		}
		all = append(all, word)
	}
	return code, all
}

// Health follows what can be served, and tells what is wrong while something can.
func TestHealthOfUpstreams(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.txt")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("sk-canary-1\nsk-canary-2\n")
	address := &url.URL{Scheme: "http", Host: "127.0.0.1:1"}
	models, err := upstream.New(&config.Config{Upstreams: []config.Upstream{
		{Name: "own", URL: address}, {Name: "hosted", URL: address, Pool: &config.Pool{File: file, MaxKeys: 1, Tries: 1}},
	}}, upstream.Options{Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	a := newAPI(t)
	a.opts.Models = models
	own, hosted := models.Servers()[0], models.Servers()[1]
	down := func(s *upstream.Server) func() {
		return func() {
			for range 3 {
				s.Note(false)
			}
		}
	}
	attempt := func(o pool.Outcome) func() {
		return func() {
			for {
				l, err := hosted.Pool.Pick(nil, nil)
				if err != nil {
					return
				}
				l.Done(o)
			}
		}
	}
	reload := func(text string) func() {
		return func() {
			write(text)
			_ = models.Reload() // health tells
		}
	}
	for _, step := range []struct {
		name string
		do   func()
		code int
		want []string
	}{
		{"at first", func() {}, 200, []string{"ok", "ok", "ok"}},
		{"a mistake in the file", reload("sk-canary-1\nsk-canary-2 a b\n"), 200, []string{"degraded", "ok", "ok stale keys.txt:2"}},
		{"an emptied file", reload(""), 200, []string{"degraded", "ok", "ok stale keys.txt"}},
		{"a good file", reload("sk-canary-1\nsk-canary-2\n"), 200, []string{"ok", "ok", "ok"}},
		{"one is down", down(own), 200, []string{"degraded", "down", "ok"}},
		{"and the other's keys rest", attempt(pool.Outcome{Class: pool.RateLimited, RetryAfter: time.Minute}), 200, []string{"degraded", "down", "resting"}},
		{"they may be used again", func() { hosted.Pool.Reset() }, 200, []string{"degraded", "down", "ok"}},
		{"they are refused", attempt(pool.Outcome{Class: pool.Rejected, Status: 401}), 200, []string{"degraded", "down", "no_keys"}},
		{"one is back", func() { own.Note(true) }, 200, []string{"degraded", "ok", "no_keys"}},
		{"a probe succeeds", func() { hosted.Pool.Reset() }, 200, []string{"ok", "ok", "ok"}},
		{"requests to both fail, as clients can have them", func() { down(own)(); down(hosted)() }, 200, []string{"degraded", "down", "down"}},
		{"one does not answer weir either", func() { own.Checked(false) }, 200, []string{"degraded", "down", "down"}},
		{"nor does the other", func() { hosted.Checked(false) }, 503, []string{"unavailable", "down", "down"}},
		{"one answers weir", func() { hosted.Checked(true) }, 200, []string{"degraded", "down", "ok"}},
		{"and is lost again", func() { down(hosted)(); hosted.Checked(false) }, 503, []string{"unavailable", "down", "down"}},
	} {
		step.do()
		if code, got := words(t, a); code != step.code || !slices.Equal(got, step.want) {
			t.Errorf("%s: status %d, %q; want %d, %q", step.name, code, got, step.code, step.want)
		}
	}
	if code, _ := get(t, a, "/health?live", ""); code != http.StatusOK {
		t.Errorf("?live: status %d, want 200", code)
	}
	reload("\"sk-canary-quoted\"\n")()
	w := httptest.NewRecorder()
	a.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/health", nil))
	if text := w.Body.String(); !strings.Contains(text, "keys.txt:1") || strings.Contains(text, "canary") || strings.Contains(text, filepath.Dir(file)) {
		t.Errorf("health tells %s, want the place of the mistake, and no secret and no folder", text)
	}
}

// staleKeys are those of a file that is gone.
func staleKeys(t *testing.T) *keyring.Keyring {
	t.Helper()
	k := keyring.Unread(config.Keys{Files: []string{filepath.Join(t.TempDir(), "gone.yaml")}}, zerolog.Nop())
	if err := k.Reload(false); err == nil {
		t.Fatal("keys of a file that is not there")
	}
	return k
}

// The other parts degrade it.
func TestHealthOfParts(t *testing.T) {
	for name, spoil := range map[string]func(a *API){
		"the store is away":     func(a *API) { a.opts.Store = func() StoreHealth { return StoreHealth{Status: "away", Kind: "redis"} } },
		"an older weir.yaml":    func(a *API) { a.opts.Config = func() ConfigHealth { return ConfigHealth{Status: "stale"} } },
		"older keys of clients": func(a *API) { a.opts.Keys = staleKeys(t) },
	} {
		a := newAPI(t)
		spoil(a)
		if code, got := words(t, a); code != http.StatusOK || got[0] != "degraded" {
			t.Errorf("%s: status %d, %q", name, code, got)
		}
	}
}

// Answers are as they are described.
func TestAnswersAreAsDescribed(t *testing.T) {
	a := newAPI(t)
	serve := func(path, key string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		r.Header.Set("x-weir-key", key)
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		return w
	}
	doc, err := openapitest.Read(t.Context(), serve("/openapi.json", "").Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, key string }{
		{"/v1/models", "all"},
		{"/v1/models", "gone"},
		{"/v1/models/llama", "all"},
		{"/v1/models/llama", "some"},
		{"/v1/models/gpt-4o/info", "all"},
		{"/v1/key", "all"},
		{"/v1/key", "some"},
		{"/v1/key", "gone"},
		{"/health", ""},
		{"/health?live", ""},
		{"/openapi.json", ""},
	} {
		w := serve(c.path, c.key)
		err := doc.Check(t.Context(), openapitest.Exchange{Method: http.MethodGet, Path: c.path, Status: w.Code, Header: w.Header(), Answer: w.Body.String()})
		if err != nil {
			t.Errorf("key %q: %v", c.key, err)
		}
	}
}

// Pages bring all they need along, and let browsers load nothing from elsewhere.
func TestPages(t *testing.T) {
	a := newAPI(t)
	serve := func(path string, headers ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		for i := 0; i+1 < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		return w
	}
	link := regexp.MustCompile(`(?:src|href|spec-url)="([^"]+)"`)
	for _, page := range []string{"/docs", "/redoc"} {
		w := serve(page)
		if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") || !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: %d %v", page, w.Code, w.Header())
		}
		for _, m := range link.FindAllStringSubmatch(w.Body.String(), -1) {
			if strings.HasPrefix(m[1], "data:") {
				continue
			}
			plain, packed := serve(m[1]), serve(m[1], "Accept-Encoding", "br, gzip")
			if plain.Code != http.StatusOK || plain.Body.Len() == 0 || plain.Header().Get("Content-Encoding") != "" || packed.Code != http.StatusOK {
				t.Errorf("%s of %s: %d %v", m[1], page, plain.Code, plain.Header())
			}
			if packed.Header().Get("Content-Encoding") == "gzip" && packed.Body.Len() >= plain.Body.Len() {
				t.Errorf("%s is no smaller when it is packed", m[1])
			}
			if tag := plain.Header().Get("ETag"); tag != "" && serve(m[1], "If-None-Match", tag).Code != http.StatusNotModified {
				t.Errorf("%s is sent again to who has it", m[1])
			}
			if strings.Contains(plain.Body.String(), "cdn.") {
				t.Errorf("%s names a content network", m[1])
			}
		}
	}
	for _, path := range []string{"/docs/", "/docs/nothing", "/docs/assets/", "/docs/assets/../api.go"} {
		if w := serve(path); w.Code == http.StatusOK {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if w := serve("/docs/assets/LICENSES.txt"); !strings.Contains(w.Body.String(), "Apache License") || !strings.Contains(w.Body.String(), "MIT License") {
		t.Errorf("the licences: %d", w.Code)
	}
}
