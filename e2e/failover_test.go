package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-gateway/weir/simulator"
)

// TestFallback has an upstream in front of another one: with another key, another
// path, and another name for the model.
func TestFallback(t *testing.T) {
	t.Parallel()
	second := simulator.New(simulator.Options{
		Models: []simulator.Model{{Name: "second-m", Script: simulator.Script{Tokens: 5}}}, Key: poolKey(9), KeepBodies: true,
	})
	server := httptest.NewServer(http.StripPrefix("/other", second))
	t.Cleanup(server.Close)
	r := start(t, fixture{
		model:     "tokens=5",
		upstreams: fmt.Sprintf("  - {name: second, url: %q, key: %s}\n", server.URL+"/other/v1", poolKey(9)),
		models: `  - {name: f, upstreams: [sim, second], served_as: {sim: m, second: second-m}}
  - {name: g, upstreams: [dead, second], served_as: {second: second-m}}
`,
	})
	for _, tt := range []struct {
		name, body, script string
		status             int
		model, upstream    string
		attempts           int
	}{
		{name: "the first is fine", body: `{"model":"f","messages":[{"role":"user","content":"hi"}]}`, status: 200, model: "f", upstream: "sim", attempts: 1},
		{name: "500", body: `{"model":"f","messages":[{"role":"user","content":"hi"}]}`, script: "fail=status:500", status: 502, upstream: "second", attempts: 2},
		{name: "nobody listens", body: `{"model":"g","messages":[{"role":"user","content":"hi"}]}`, status: 200, model: "second-m", upstream: "second", attempts: 2},
		{name: "nobody listens, in a stream", body: `{"model":"g","stream":true,"messages":[{"role":"user","content":"hi"}]}`, status: 200, model: "second-m", upstream: "second", attempts: 2},
		{name: "the request is at fault", body: `{"model":"f","messages":[{"role":"user","content":"hi"}]}`, script: "fail=status:400", status: 400, upstream: "sim", attempts: 1},
	} {
		before := len(r.records())
		got := r.post(tt.body, "X-Simulate", tt.script)
		if got.status != tt.status {
			t.Errorf("%s: status %d, %s", tt.name, got.status, got.body)
		}
		rec := r.settled(before + 1)[before]
		if rec.Upstream != tt.upstream || rec.Attempts != tt.attempts {
			t.Errorf("%s: ledger %+v", tt.name, rec)
		}
		if want := tt.model; tt.status == 200 && want != "f" && got.header.Get("X-Weir-Model") != want {
			t.Errorf("%s: x-weir-model %q, want %q", tt.name, got.header.Get("X-Weir-Model"), want)
		}
	}
	long := strings.Repeat("word ", 600_000)
	got := r.post(`{"model":"g","messages":[{"role":"user","content":"` + long + `"}]}`)
	if got.status != http.StatusOK {
		t.Errorf("a long request: status %d, %.300s", got.status, got.body)
	}
	for _, e := range second.Ledger().Entries() {
		if e.Auth != last4(9) || e.Model != "second-m" || e.Path != "/v1/chat/completions" {
			t.Errorf("the second upstream got %+v", e)
		}
		for name := range e.Header {
			if strings.HasPrefix(name, "X-Weir") || strings.HasPrefix(name, "X-Envoy") {
				t.Errorf("the upstream got the header %s", name)
			}
		}
	}
	if n := second.Ledger().Len(); n != 4 {
		t.Errorf("the second upstream got %d requests, want 4", n)
	}
}

// TestNoAttemptAfterTheFirstByte breaks answers off after they began.
func TestNoAttemptAfterTheFirstByte(t *testing.T) {
	t.Parallel()
	r := pooled(t, fixture{}, "", fine, fine, fine)
	streamed := strings.Replace(ask, "{", `{"stream":true,`, 1)
	scripts := []string{"fail=reset:2,pace=5ms", "fail=close:2,pace=5ms", "fail=end:2", "fail=error:2"}
	for _, script := range scripts {
		got, _ := r.try(t.Context(), http.MethodPost, "/v1/chat/completions", streamed, "X-Simulate", script)
		if got.status != http.StatusOK || strings.Count(got.body, "data: ") < 2 {
			t.Errorf("%s: status %d, %q", script, got.status, got.body)
		}
	}
	for _, rec := range r.settled(len(scripts)) {
		if rec.Attempts != 1 || rec.Tokens.Output == 0 {
			t.Errorf("ledger %+v", rec)
		}
	}
	if n := r.pool.Ledger().Len(); n != len(scripts) {
		t.Errorf("%d requests came for %d", n, len(scripts))
	}
}

// TestFailedAttemptsCostNothing lets every second attempt fail, and counts what the
// client is charged.
func TestFailedAttemptsCostNothing(t *testing.T) {
	t.Parallel()
	r := pooled(t, fixture{limits: "  - {name: tpm, per: [key], tokens: 1000000/h}\n  - {name: rph, per: [key], requests: 1000/h}\n"}, "      retry: {keys: 2, tries: 3}\n",
		func(n int64) string {
			if n%2 == 0 {
				return "fail=status:503"
			}
			return ""
		}, fine)
	const n = 50
	for range n {
		if got := r.post(ask); got.status != http.StatusOK {
			t.Errorf("status %d, %s", got.status, got.body)
		}
	}
	var charged, made int64
	attempts := 0
	for _, rec := range r.settled(n) {
		charged += rec.Tokens.Input + rec.Tokens.Output
		attempts += rec.Attempts
	}
	for _, e := range r.pool.Ledger().Entries() {
		if e.Status == http.StatusOK && e.Method == http.MethodPost {
			made += e.Prompt + e.Completion
		}
	}
	if charged != made || attempts <= n {
		t.Errorf("charged %d tokens, %d were served; %d attempts for %d requests", charged, made, attempts, n)
	}
	got := r.post(ask)
	if left := got.header.Get("X-Ratelimit-Remaining-Requests"); left != fmt.Sprint(1000-n-1) {
		t.Errorf("%s requests are left of 1000 after %d", left, n+1)
	}
}

// TestUpstreamComesBack stops an upstream under load and starts it again: no client
// notices.
func TestUpstreamComesBack(t *testing.T) {
	t.Parallel()
	first := simulator.New(simulator.Options{Models: []simulator.Model{{Name: "f", Script: simulator.Script{Tokens: 5}}}})
	server := httptest.NewUnstartedServer(first)
	address := server.Listener.Addr().String()
	server.Start()
	r := start(t, fixture{
		upstreams: fmt.Sprintf("  - {name: first, url: %q}\n", server.URL+"/v1"),
		models:    "  - {name: f, upstreams: [first, sim], served_as: {sim: m}}\n",
	})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
				if got := r.post(`{"model":"f","messages":[{"role":"user","content":"hi"}]}`); got.status != http.StatusOK {
					t.Errorf("status %d, %s", got.status, got.body)
				}
			}
		})
	}
	served := func() int { return first.Ledger().Len() }
	r.eventually("the first serves", func() bool { return served() > 20 })
	server.CloseClientConnections()
	server.Close()
	r.eventually("it is known to be down", func() bool { return r.metric(`weir_upstream_up{upstream="first"}`) == "0" })
	time.Sleep(300 * time.Millisecond)
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	again := &httptest.Server{Listener: listener, Config: &http.Server{Handler: first}}
	again.Start()
	t.Cleanup(again.Close)
	begun, before := time.Now(), served()
	r.eventually("it serves again", func() bool { return served() > before+10 })
	t.Logf("it served again after %v", time.Since(begun))
	close(stop)
	wg.Wait()
}

// TestFailoverTime measures how long it takes from the end of a failed attempt to
// the beginning of the next, as the upstream sees it.
func TestFailoverTime(t *testing.T) {
	t.Parallel()
	half := func(n int64) string {
		if n%2 == 0 {
			return "fail=status:500"
		}
		return ""
	}
	r := pooled(t, fixture{}, "", half, fine)
	for range 200 {
		if got := r.post(ask); got.status != http.StatusOK && got.status != http.StatusBadGateway {
			t.Errorf("status %d, %s", got.status, got.body)
		}
	}
	ended := map[string]time.Time{}
	var gaps []time.Duration
	for _, e := range r.pool.Ledger().Entries() {
		if end, ok := ended[e.RequestID]; ok {
			gaps = append(gaps, e.Start.Sub(end))
		}
		ended[e.RequestID] = e.End
	}
	if len(gaps) < 20 {
		t.Fatalf("%d second attempts, want more", len(gaps))
	}
	slices.Sort(gaps)
	t.Logf("%d attempts began after a failed one, in the median %v later, at the 90th percentile %v", len(gaps), gaps[len(gaps)/2], gaps[len(gaps)*9/10])
	if median := gaps[len(gaps)/2]; median > 50*time.Millisecond {
		t.Errorf("it took %v in the median", median)
	}
}
