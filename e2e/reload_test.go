package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/ledger"
	"github.com/weir-gateway/weir/simulator"
)

// openStreams has n streams flow, of the models by turns, and answers each one's body
// when it has ended.
func openStreams(t *testing.T, r *rig, n int, models ...string) (ended <-chan string) {
	t.Helper()
	bodies := make(chan string, n)
	var flowing sync.WaitGroup
	client := &http.Client{Transport: &http.Transport{}} // one connection each
	t.Cleanup(client.CloseIdleConnections)
	for i := range n {
		flowing.Add(1)
		go func() {
			model, once := models[i%len(models)], sync.OnceFunc(flowing.Done)
			defer once()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL+"/v1/chat/completions",
				strings.NewReader(strings.Replace(chat(`"stream":true`), `"m"`, fmt.Sprintf("%q", model), 1)))
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Authorization", "Bearer "+goodKey)
			body := ""
			defer func() { bodies <- body }()
			resp, err := client.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			first := make([]byte, 1)
			_, _ = io.ReadFull(resp.Body, first)
			once()
			rest, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Errorf("a stream was cut: %v", err)
			}
			body = string(first) + string(rest)
		}()
	}
	flowing.Wait()
	return bodies
}

// rewrite replaces a file of the site at once, as editors and orchestrators do.
func (r *rig) rewrite(name, text string) {
	r.t.Helper()
	file := filepath.Join(r.Dir, name)
	writeFile(r.t, file+".new", text)
	if err := os.Rename(file+".new", file); err != nil {
		r.t.Fatal(err)
	}
}

// ask is a plain chat request for a model.
func (r *rig) ask(model string) reply {
	r.t.Helper()
	return r.post(strings.Replace(chat(), `"m"`, fmt.Sprintf("%q", model), 1), "x-simulate", "tokens=1")
}

// TestReloadCutsNothing changes models, upstreams, routes, limits and keys under live
// streams, takes away what they run on, and breaks the files.
//
// It runs alone: its changes must be through before the streams end by themselves.
func TestReloadCutsNothing(t *testing.T) {
	other := httptest.NewServer(simulator.New(simulator.Options{Models: []simulator.Model{{Name: "served", Context: 1000}}}))
	t.Cleanup(other.Close)
	const streams, tokens = 200, 80
	again := httptest.NewServer(simulator.New(simulator.Options{
		Models: []simulator.Model{{Name: "read", Script: simulatorScript(t, fmt.Sprintf("tokens=%d,pace=100ms", tokens))}},
	}))
	t.Cleanup(again.Close)
	r := start(t, fixture{
		model:     fmt.Sprintf("tokens=%d,pace=100ms", tokens),
		upstreams: fmt.Sprintf("  - {name: read, url: %q, metering: streamed}\n", again.URL+"/v1"),
		metering:  "native",
		limits:    "  - {name: all, requests: 100000/h}\n",
	})
	original, err := os.ReadFile(filepath.Join(r.Dir, "weir.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	first := strings.Replace(string(original), "models:\n", "models:\n  - {name: read, upstreams: [read]}\n", 1)
	r.rewrite("weir.yaml", first)
	r.eventually("a new model is served", func() bool { return r.ask("read").status == http.StatusOK })

	bodies := openStreams(t, r, streams, "m", "read") // metered within Envoy, and by weir
	begun := time.Now()

	// A new upstream and a model of it, under an alias.
	more := strings.Replace(first, "models:\n", "models:\n  - {name: served, aliases: [nick], upstreams: [later]}\n", 1)
	more = strings.Replace(more, "upstreams:\n", fmt.Sprintf("upstreams:\n  - {name: later, url: %q}\n", other.URL+"/v1"), 1)
	r.rewrite("weir.yaml", more)
	r.eventually("a new upstream serves", func() bool { return r.ask("nick").status == http.StatusOK })
	if got := r.do(http.MethodGet, "/v1/models/nick", ""); got.status != http.StatusOK {
		t.Errorf("the new model is not listed: status %d, %s", got.status, got.body)
	}

	// A limit.
	limited := strings.Replace(more, "limits:\n", "limits:\n  - {name: tight, per: [user], requests: 1/day}\n", 1)
	r.rewrite("weir.yaml", limited)
	r.eventually("a new limit refuses", func() bool { return r.ask("nick").status == http.StatusTooManyRequests })
	r.rewrite("weir.yaml", more)
	r.eventually("without the limit requests pass", func() bool { return r.ask("nick").status == http.StatusOK })

	// What the streams run on goes away.
	without := strings.Replace(more, "  - {name: m, aliases: [alias], upstreams: [sim], context: 100000}\n", "", 1)
	without = strings.Replace(without, "  - {name: read, upstreams: [read]}\n", "", 1)
	var lines []string
	for line := range strings.Lines(without) {
		if !strings.HasPrefix(line, "  - {name: sim,") && !strings.HasPrefix(line, "  - {name: read,") {
			lines = append(lines, line)
		}
	}
	r.rewrite("weir.yaml", strings.Join(lines, ""))
	r.eventually("a model is gone", func() bool { return r.ask("m").status == http.StatusNotFound })
	if got := r.ask("nick"); got.status != http.StatusOK {
		t.Errorf("what stays: status %d, %s", got.status, got.body)
	}

	// Mistakes: the last good one stays in force, and that is told.
	r.rewrite("weir.yaml", more+"typo: 1\n")
	r.eventually("health tells of a mistake", func() bool {
		return strings.Contains(r.do(http.MethodGet, "/health", "").body, `"config":{"status":"stale"`)
	})
	if got := r.metric("weir_config_stale"); got != "1" {
		t.Errorf("weir_config_stale is %q", got)
	}
	if !strings.Contains(r.Log(), "typo") || r.ask("nick").status != http.StatusOK {
		t.Errorf("the mistake is not in the log, or did harm:\n%s", r.Log())
	}

	// Back, with other keys.
	r.rewrite("weir.yaml", first)
	r.rewrite("keys.yaml", fmt.Sprintf("keys:\n  - {id: good, user: ann, hash: %q}\n", keyring.Hash(goodKey)))
	r.eventually("a key is gone", func() bool {
		return r.post(chat(), "Authorization", "Bearer "+otherKey).status == http.StatusUnauthorized
	})
	r.eventually("a model is back", func() bool { return r.ask("m").status == http.StatusOK })
	if got := r.do(http.MethodGet, "/health", "").body; !strings.Contains(got, `"config":{"status":"ok"`) {
		t.Errorf("health: %s", got)
	}

	took := time.Since(begun)
	if whole := tokens * 100 * time.Millisecond; took > whole {
		t.Errorf("the changes took %v, longer than the streams' %v", took, whole)
	}
	for range streams {
		body := <-bodies
		if !strings.HasSuffix(body, "data: [DONE]\n\n") || strings.Count(body, `"content":`) < tokens {
			t.Fatalf("a stream ends in %q after %d pieces", body[max(0, len(body)-100):], strings.Count(body, `"content":`))
		}
	}
	r.eventually("all streams are in the ledger with their tokens", func() bool {
		exact := 0
		for _, rec := range r.records() {
			if rec.Stream && rec.Outcome == ledger.OK && rec.Tokens.Output == tokens {
				exact++
			}
		}
		return exact == streams
	})
}

func simulatorScript(t *testing.T, text string) simulator.Script {
	t.Helper()
	script, err := simulator.ParseScript(text)
	if err != nil {
		t.Fatal(err)
	}
	return script
}

// TestEnvoyRejects has a running Envoy refuse what it cannot work with: it goes on with
// what it has, and that is told.
func TestEnvoyRejects(t *testing.T) {
	t.Parallel()
	cfg, err := config.Parse("", []byte(`
listen: 127.0.0.1:0
upstreams: [{name: a, url: "http://127.0.0.1:1/v1"}]
models: [{name: m, upstreams: [a]}]
`), true, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	sockets, err := envoy.SocketsIn(shortDir(t))
	if err != nil {
		t.Fatal(err)
	}
	b, good, err := envoy.WriteFiles(cfg, sockets, "")
	if err != nil {
		t.Fatal(err)
	}
	p := startEnvoy(t, b)
	tell := func(r *envoy.Resources) error {
		t.Helper()
		discovery, err := p.Admin.Discovery(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Write(filepath.Dir(sockets.Admin)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return discovery.Accepted(ctx, r.Version())
	}
	bad, err := envoy.Dynamic(cfg, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	bad.Clusters[0].ConnectTimeout = durationpb.New(-time.Second)
	for i, step := range []struct {
		resources *envoy.Resources
		want      error
	}{{good, nil}, {bad, envoy.ErrRejected}, {good, nil}} {
		if err := tell(step.resources); !errors.Is(err, step.want) {
			t.Errorf("step %d: %v, want %v", i, err, step.want)
		}
	}
}

// TestReloadWithFixedEnvoy changes the configuration behind an Envoy whose bootstrap holds
// everything: limits change, upstreams cannot.
func TestReloadWithFixedEnvoy(t *testing.T) {
	t.Parallel()
	a := startApart(t, fixture{})
	original, err := os.ReadFile(filepath.Join(a.Dir, "weir.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	a.rewrite("weir.yaml", string(original)+"limits:\n  - {name: tight, per: [user], requests: 1/day}\n")
	a.eventually("a new limit refuses", func() bool { return a.post(chat()).status == http.StatusTooManyRequests })
	stale := func() bool {
		return strings.Contains(a.do(http.MethodGet, "/health", "").body, `"config":{"status":"stale"`)
	}
	a.rewrite("weir.yaml", strings.Replace(string(original), "upstreams:\n", "upstreams:\n  - {name: late, url: \"http://127.0.0.1:1/v1\"}\n", 1))
	a.eventually("a new upstream is refused", stale)
	a.rewrite("weir.yaml", string(original))
	a.eventually("the first configuration is in force again", func() bool { return !stale() && a.answers() })
}

// TestHangupReadsCredentials renews the credential of an upstream in its file.
func TestHangupReadsCredentials(t *testing.T) {
	t.Parallel()
	const renewed = "sk-upstream-canary-renewed"
	upstream := httptest.NewServer(simulator.New(simulator.Options{Models: []simulator.Model{{Name: "x"}}, Key: renewed}))
	t.Cleanup(upstream.Close)
	file := filepath.Join(shortDir(t), "credential")
	writeFile(t, file, "sk-upstream-canary-outdated")
	r := start(t, fixture{upstreams: fmt.Sprintf("  - {name: keyed, url: %q, key_file: %q}\n", upstream.URL+"/v1", file)})
	text, err := os.ReadFile(filepath.Join(r.Dir, "weir.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	r.rewrite("weir.yaml", strings.Replace(string(text), "models:\n", "models:\n  - {name: x, upstreams: [keyed]}\n", 1))
	r.eventually("the outdated credential is refused", func() bool { return r.ask("x").status == http.StatusBadGateway })
	writeFile(t, file, renewed)
	if err := r.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	r.eventually("the renewed credential is shown", func() bool { return r.ask("x").status == http.StatusOK })
}
