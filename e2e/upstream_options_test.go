package e2e

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-gateway/weir/e2e/site"
	"github.com/weir-gateway/weir/ledger"
	"github.com/weir-gateway/weir/simulator"
)

// TestSilenceInAStream lets an upstream fall silent in the middle of its answer,
// and go on for too long.
func TestSilenceInAStream(t *testing.T) {
	t.Parallel()
	f := fixture{idle: "400ms", models: "  - {name: t, upstreams: [timed]}\n"}
	slow := simulator.New(simulator.Options{Models: []simulator.Model{{Name: "t"}}})
	server := httptest.NewServer(slow)
	t.Cleanup(server.Close)
	f.upstreams = fmt.Sprintf("  - {name: timed, url: %q, timeouts: {idle: 1s, first_byte: 300ms, total: 1500ms}}\n", server.URL+"/v1")
	r := start(t, f)
	timed := `{"model":"t","stream":true,"messages":[{"role":"user","content":"hi"}]}`
	for _, tt := range []struct {
		name, body, script string
		status             int
		says               string
		least, most        time.Duration
	}{
		{"idle", chat(`"stream":true`), "fail=hang:3", 200, "it was given 400ms", 350 * time.Millisecond, 2 * time.Second},
		{"total", timed, "tokens=1000,pace=50ms", 200, "it was given 1.5s", 1400 * time.Millisecond, 4 * time.Second},
		{"plain, total", strings.Replace(timed, `"stream":true,`, "", 1), "ttft=5s", 504, "upstream_timeout", 1400 * time.Millisecond, 4 * time.Second},
		{"no answer, first byte", timed, "fail=hang:0", 504, "upstream_timeout", 250 * time.Millisecond, 1200 * time.Millisecond},
	} {
		begun := time.Now()
		got, err := r.try(t.Context(), http.MethodPost, "/v1/chat/completions", tt.body, "X-Simulate", tt.script)
		took := time.Since(begun)
		if got.status != tt.status || !strings.Contains(got.body, tt.says) || took < tt.least || took > tt.most {
			t.Errorf("%s: status %d after %v, %v, body ends in %q", tt.name, got.status, took, err, got.body[max(0, len(got.body)-300):])
		}
		if tt.status == 200 && (err == nil || !strings.Contains(got.body, `"code":"upstream_timeout"}}`)) {
			t.Errorf("%s: error %v: a broken stream must not end cleanly, and tell why", tt.name, err)
		}
	}
}

// TestTotalIsTheRequests gives a request to a pool the time that is configured once, not
// for each of its keys.
func TestTotalIsTheRequests(t *testing.T) {
	t.Parallel()
	slow := simulator.New(simulator.Options{Models: []simulator.Model{{Name: "t"}}})
	server := httptest.NewServer(slow)
	t.Cleanup(server.Close)
	r := start(t, fixture{
		models: "  - {name: t, upstreams: [timed]}\n",
		upstreams: fmt.Sprintf("  - {name: timed, url: %q, timeouts: {total: 1s}, keys: {list: [{key: sk-upstream-canary-first}, {key: sk-upstream-canary-second}]}}\n",
			server.URL+"/v1"),
	})
	got := r.do(http.MethodPost, "/v1/chat/completions", `{"model":"t","messages":[{"role":"user","content":"hi"}]}`, "X-Simulate", "ttft=20s")
	if got.status != http.StatusGatewayTimeout || got.code() != "upstream_timeout" {
		t.Errorf("status %d, %s", got.status, got.body)
	}
	if n := slow.Ledger().Len(); n != 1 {
		t.Errorf("%d attempts in the time of one", n)
	}
}

// TestRewriteResponse has answers name the model as the client did.
func TestRewriteResponse(t *testing.T) {
	t.Parallel()
	f := fixture{models: "  - {name: real, aliases: [nick], upstreams: [sim], served_as: {sim: m}, rewrite_response: true}\n"}
	for _, idle := range []string{"", "1m"} {
		f.idle = idle
		r := start(t, f)
		for _, asked := range []string{"real", "nick"} {
			for _, member := range []string{"", `"stream":true,`, `"stream":true,"stream_options":{"include_usage":true},`} {
				got := r.post(`{` + member + `"model":"` + asked + `","messages":[{"role":"user","content":"hi"}]}`)
				names := strings.Count(got.body, `"model":"`+asked+`"`)
				if got.status != http.StatusOK || names == 0 || names != strings.Count(got.body, `"model":`) {
					t.Errorf("%s %s: status %d, %s", asked, member, got.status, got.body)
				}
				if want := "nick"; asked == want && got.header.Get("X-Weir-Model") != "real" {
					t.Errorf("x-weir-model %q", got.header.Get("X-Weir-Model"))
				}
			}
		}
		for _, rec := range r.settled(6) {
			if rec.Outcome != ledger.OK || rec.Source != ledger.Exact {
				t.Errorf("ledger %+v", rec)
			}
		}
	}
}

// TestDiscover serves the models that upstreams list.
func TestDiscover(t *testing.T) {
	t.Parallel()
	sim := simulator.New(simulator.Options{Models: []simulator.Model{{Name: "org/found", Context: 4321}}})
	var listing atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/models" && !listing.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		sim.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	r := start(t, fixture{upstreams: fmt.Sprintf("  - {name: disc, url: %q, models: discover}\n", server.URL+"/v1")})
	// Before that nobody knows whether a model exists.
	for _, got := range []reply{r.post(`{"model":"org/found","messages":[{"role":"user","content":"hi"}]}`), r.do(http.MethodGet, "/v1/models/org/found", "")} {
		if got.status != http.StatusServiceUnavailable || got.code() != "no_upstream" || got.header.Get("Retry-After") != "2" {
			t.Errorf("before the models are known: status %d, %v, %s", got.status, got.header, got.body)
		}
	}
	listing.Store(true)
	r.eventually("the model is there", func() bool {
		return r.do(http.MethodGet, "/v1/models/org/found", "").status == http.StatusOK
	})
	if got := r.post(`{"model":"org/found","messages":[{"role":"user","content":"hi"}]}`); got.status != http.StatusOK {
		t.Errorf("status %d, %s", got.status, got.body)
	}
	got := r.do(http.MethodGet, "/v1/models/org/found/info", "")
	for _, want := range []string{`"context_length":4321`, `"available":true`, `"id":"org/found"`, `"aliases":[]`} {
		if !strings.Contains(got.body, want) {
			t.Errorf("no %s in %s", want, got.body)
		}
	}
	if got := r.do(http.MethodGet, "/v1/models/nobody/info", ""); got.status != http.StatusNotFound || got.code() != "model_not_found" {
		t.Errorf("status %d, %s", got.status, got.body)
	}
}

// TestHTTPSUpstream reaches a server by TLS: one whose authority is known, and not
// one whose is not.
func TestHTTPSUpstream(t *testing.T) {
	t.Parallel()
	sim := simulator.New(simulator.Options{Models: []simulator.Model{{Name: "s"}, {Name: "u"}}, Keys: map[string]func(int64) string{poolKey(0): fine}})
	server := httptest.NewTLSServer(sim)
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	r := start(t, fixture{
		upstreams: fmt.Sprintf("  - {name: known, url: %q, ca_file: %q, keys: {list: [{key: %s}]}}\n  - {name: unknown, url: %q, key: %s}\n",
			server.URL+"/v1", ca, poolKey(0), server.URL+"/v1", poolKey(0)),
		models: "  - {name: s, upstreams: [known]}\n  - {name: u, upstreams: [unknown]}\n",
	})
	if got := r.post(`{"model":"s","messages":[{"role":"user","content":"hi"}]}`); got.status != http.StatusOK {
		t.Errorf("status %d, %s", got.status, got.body)
	}
	if got := r.post(`{"model":"u","messages":[{"role":"user","content":"hi"}]}`); got.status != http.StatusServiceUnavailable || got.code() != "no_upstream" {
		t.Errorf("an authority that is not known: status %d, %s", got.status, got.body)
	}
	if n := sim.Ledger().Len(); n != 1 {
		t.Errorf("%d requests came, want 1", n)
	}
}

// TestEnvironmentIsEnough starts weir where a key-rotating proxy stood: no
// configuration, variables and files only.
func TestEnvironmentIsEnough(t *testing.T) {
	t.Parallel()
	sim := simulator.New(simulator.Options{
		Models: []simulator.Model{{Name: "openai-gpt-oss-120b"}}, Keys: map[string]func(int64) string{poolKey(0): always("fail=status:500"), poolKey(1): fine},
	})
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	for _, d := range []string{"data", "config"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(dir, "data", "keys.txt"), "# keys\n\n"+poolKey(0)+"\n"+poolKey(1)+"\n")
	writeFile(t, filepath.Join(dir, "config", "api_keys.json"), `{"keys":[{"key":"`+goodKey+`","user":"ann","quota":100000,"enabled":true}]}`)
	s, err := site.Start(t.Context(), binary, dir, []string{"--drain", "1s"}, "MEGALLM_BASE_URL="+server.URL+"/v1", "HOST=127.0.0.1", "PORT=0",
		"MEGALLM_TIMEOUT=30", "MEGALLM_MAX_RETRIES=2", "MAX_KEY_RETRIES=2", "XDG_RUNTIME_DIR="+shortDir(t), "WEIR_RUN_DIR="+shortDir(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	r := &rig{Site: s, t: t}
	for _, body := range []string{`{"messages":[{"role":"user","content":"hi"}]}`, `{"model":"openai-gpt-oss-120b","messages":[{"role":"user","content":"hi"}]}`} {
		if got := r.post(body); got.status != http.StatusOK {
			t.Errorf("status %d, %s", got.status, got.body)
		}
	}
	if got := r.do(http.MethodGet, "/v1/models", ""); strings.Count(got.body, `"id"`) != 12 || !strings.Contains(got.body, `"context_length":262000`) {
		t.Errorf("models: %s", got.body)
	}
	if uses := usesOf(sim); uses[last4(0)] == 0 || uses[last4(1)] != 2 {
		t.Errorf("uses %v", uses)
	}
	if strings.Contains(s.Log()+s.Stdout(), "canary") {
		t.Error("weir's output shows a key")
	}
}
