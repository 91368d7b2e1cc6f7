package e2e

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-gateway/weir/admin"
	"github.com/weir-gateway/weir/e2e/site"
	"github.com/weir-gateway/weir/ledger"
	"github.com/weir-gateway/weir/ratelimit/redistest"
	"github.com/weir-gateway/weir/simulator"
)

// poolKey is the secret of a test pool's key. Each holds the word that no output of
// weir may show.
func poolKey(n int) string { return fmt.Sprintf("sk-upstream-canary-%08d", n) }

// last4 is how the simulator's ledger names a key.
func last4(n int) string { key := poolKey(n); return key[len(key)-4:] }

// pooled is a site whose model p is served with a pool of keys, each of which the
// simulator treats by its script.
func pooled(t *testing.T, f fixture, pool string, scripts ...func(n int64) string) *rig {
	t.Helper()
	sim := withPool(t, &f, pool, scripts...)
	r := start(t, f)
	r.pool = sim
	return r
}

// withPool adds the upstream of pooled to a fixture.
func withPool(t *testing.T, f *fixture, pool string, scripts ...func(n int64) string) *simulator.Simulator {
	t.Helper()
	keys := map[string]func(int64) string{}
	var list strings.Builder
	for i, script := range scripts {
		keys[poolKey(i)] = script
		fmt.Fprintf(&list, "        - {key: %s, label: k%d}\n", poolKey(i), i)
	}
	sim := simulator.New(simulator.Options{Models: []simulator.Model{{Name: "p", Script: simulator.Script{Tokens: 5}}}, Keys: keys})
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	f.upstreams += fmt.Sprintf("  - name: pool\n    url: %s/v1\n    keys:\n%s      list:\n%s", server.URL, pool, list.String())
	if f.models == "" {
		f.models = "  - {name: p, upstreams: [pool], context: 100000}\n"
	}
	return sim
}

func fine(int64) string { return "" }

func always(script string) func(int64) string { return func(int64) string { return script } }

const ask = `{"model":"p","messages":[{"role":"user","content":"hello"}]}`

// usesOf counts the requests for completions that came with each key.
func usesOf(sim *simulator.Simulator) map[string]int {
	uses := map[string]int{}
	for _, e := range sim.Ledger().Entries() {
		if e.Method == http.MethodPost {
			uses[e.Auth]++
		}
	}
	return uses
}

// TestPoolServesAll has one key for each way to fail, and one that is fine: every
// request is served.
func TestPoolServesAll(t *testing.T) {
	t.Parallel()
	half := func(n int64) string {
		if n%2 == 0 {
			return "fail=status:500"
		}
		return ""
	}
	r := pooled(t, fixture{limits: "  - {name: tpm, tokens: 100000000/m}\n"}, "      retry: {keys: 5, tries: 5}\n",
		always("fail=status:401"), always("fail=status:429,retry_after=3"), half, always("fail=reset:0"), fine)
	const n = 2000
	if got := r.post(ask); got.status != http.StatusOK { // the first meets them all, one after the other
		t.Errorf("status %d, %s", got.status, got.body)
	}
	var wg sync.WaitGroup
	work := make(chan struct{}, n)
	for range n - 1 {
		work <- struct{}{}
	}
	close(work)
	for range 8 {
		wg.Go(func() {
			for range work {
				if got := r.post(ask); got.status != http.StatusOK {
					t.Errorf("status %d, %s", got.status, got.body)
				}
			}
		})
	}
	wg.Wait()
	attempts := 0
	for _, rec := range r.settled(n) {
		if rec.Outcome != ledger.OK || rec.Source != ledger.Exact || rec.Upstream != "pool" || rec.UpstreamKeyID == "" || rec.Tokens.Output != 5 {
			t.Fatalf("ledger %+v", rec)
		}
		attempts += rec.Attempts
	}
	uses := usesOf(r.pool)
	if uses[last4(0)] != 1 {
		t.Errorf("the key that is refused was used %d times, want once", uses[last4(0)])
	}
	checkGaps(t, r.pool, last4(1), 3*time.Second)
	checkCounts(t, r, uses)
	checkAttempts(t, r.pool, attempts)
	t.Logf("uses by key: %v, attempts %d", uses, attempts)
}

// checkCounts compares what weir counts for each key to what came with it.
func checkCounts(t *testing.T, r *rig, uses map[string]int) {
	t.Helper()
	var answer admin.Pools
	if err := json.Unmarshal([]byte(r.overSocket("ops.sock", "/pools")), &answer); err != nil {
		t.Fatal(err)
	}
	for _, p := range answer.Pools {
		for _, k := range p.Keys {
			if k.Requests != int64(uses[k.Last4]) || k.InFlight != 0 {
				t.Errorf("weir counts %d requests with %s and %d in flight, %d came", k.Requests, k.Label, k.InFlight, uses[k.Last4])
			}
		}
	}
}

// checkGaps tells when a key was used again too early after its first refusal.
func checkGaps(t *testing.T, sim *simulator.Simulator, key string, gap time.Duration) {
	t.Helper()
	var began, last time.Time
	for _, e := range sim.Ledger().Entries() {
		if e.Auth != key {
			continue
		}
		// Requests that were on their way when the first was refused count with it.
		if began.IsZero() || e.Start.Sub(began) > gap-100*time.Millisecond {
			if !last.IsZero() && e.Start.Before(last.Add(gap-100*time.Millisecond)) {
				t.Errorf("the key %s was used %v after it was to rest for %v", key, e.Start.Sub(last), gap)
			}
			began = e.Start
		} else if e.Start.Sub(began) > 100*time.Millisecond {
			t.Errorf("the key %s was used %v after it was to rest for %v", key, e.Start.Sub(began), gap)
		}
		last = e.Start
	}
}

// checkAttempts compares weir's count of attempts to the simulator's, and looks
// for requests that came twice with one key.
func checkAttempts(t *testing.T, sim *simulator.Simulator, attempts int) {
	t.Helper()
	came := 0
	with := map[string]bool{}
	for _, e := range sim.Ledger().Entries() {
		if e.Method != http.MethodPost {
			continue
		}
		came++
		if at := e.RequestID + " " + e.Auth; with[at] {
			t.Errorf("the request %s came twice with one key", e.RequestID)
		} else {
			with[at] = true
		}
	}
	if came != attempts {
		t.Errorf("weir counts %d attempts, %d came", attempts, came)
	}
}

// TestPoolExhausted asks when no key can be used: the upstream is not asked.
func TestPoolExhausted(t *testing.T) {
	t.Parallel()
	t.Run("cooling", func(t *testing.T) {
		t.Parallel()
		r := pooled(t, fixture{limits: "  - {name: rpm, requests: 3/m}\n"}, "", always("fail=status:429,retry_after=7"), always("fail=status:429,retry_after=30"))
		for i, want := range []int{http.StatusTooManyRequests, http.StatusTooManyRequests, http.StatusTooManyRequests, http.StatusTooManyRequests, http.StatusTooManyRequests} {
			got := r.post(ask)
			if after := got.header.Get("Retry-After"); got.status != want || got.code() != "rate_limit_exceeded" || after != "7" {
				t.Errorf("request %d: status %d, retry-after %q, %s", i+1, got.status, after, got.body)
			}
		}
		if uses := usesOf(r.pool); uses[last4(0)] != 1 || uses[last4(1)] != 1 {
			t.Errorf("uses %v, want one of each: after that nobody was to be asked", uses)
		}
		if body := r.post(ask).body; strings.Contains(body, "k0") || strings.Contains(body, "pool") {
			t.Errorf("the refusal names keys or upstreams: %s", body)
		}
	})
	t.Run("quarantined", func(t *testing.T) {
		t.Parallel()
		r := pooled(t, fixture{}, "", always("fail=status:401"), always("fail=status:402"), always("fail=status:403"))
		for i := range 3 {
			got := r.post(ask)
			if got.status != http.StatusServiceUnavailable || got.code() != "no_upstream" || got.header.Get("Retry-After") == "" {
				t.Errorf("request %d: status %d, headers %v, %s", i+1, got.status, got.header, got.body)
			}
			if strings.Contains(got.body, "k0") || strings.Contains(got.body, "uk_") || strings.Contains(got.body, "pool") {
				t.Errorf("the refusal names keys: %s", got.body)
			}
		}
		if uses := usesOf(r.pool); uses[last4(0)]+uses[last4(1)]+uses[last4(2)] != 3 {
			t.Errorf("uses %v, want one of each", uses)
		}
		if got := r.metric(`weir_upstream_keys_usable{upstream="pool"}`); got != "0" {
			t.Errorf("usable keys %q", got)
		}
	})
}

// TestPoolTurns shares the requests out evenly.
func TestPoolTurns(t *testing.T) {
	t.Parallel()
	r := pooled(t, fixture{}, "", fine, fine, fine)
	for range 100 {
		r.post(ask)
	}
	if low, high := spread(r.pool); high-low > 1 {
		t.Errorf("one after the other: uses %v", usesOf(r.pool))
	}
	r.pool.Ledger().Reset()
	const n, parallel = 3000, 64
	work := make(chan struct{}, n)
	for range n {
		work <- struct{}{}
	}
	close(work)
	var wg sync.WaitGroup
	for range parallel {
		wg.Go(func() {
			for range work {
				if got := r.post(ask); got.status != http.StatusOK {
					t.Errorf("status %d, %s", got.status, got.body)
				}
			}
		})
	}
	wg.Wait()
	if low, high := spread(r.pool); float64(high-low) > 0.02*n/3 {
		t.Errorf("%d at a time: uses %v", parallel, usesOf(r.pool))
	}
}

func spread(sim *simulator.Simulator) (low, high int) {
	low = 1 << 30
	for _, n := range usesOf(sim) {
		low, high = min(low, n), max(high, n)
	}
	return low, high
}

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

// TestPoolIsShared has one replica learn from the other's 429 and 401.
func TestPoolIsShared(t *testing.T) {
	t.Parallel()
	f := fixture{}
	sim := withPool(t, &f, "", always("fail=status:429,retry_after=20"), always("fail=status:401"), fine)
	redis := redistest.Start(t)
	a, b := pair(t, redis, f)
	if got := a.post(ask); got.status != http.StatusOK {
		t.Fatalf("status %d, %s", got.status, got.body)
	}
	begun := time.Now()
	b.eventually("the other replica knows", func() bool {
		return b.metric(`weir_upstream_keys_usable{upstream="pool"}`) == "1"
	})
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("it took %v", took)
	} else {
		t.Logf("the other replica knew after %v", took)
	}
	for range 20 {
		if got := b.post(ask); got.status != http.StatusOK {
			t.Errorf("status %d, %s", got.status, got.body)
		}
	}
	if uses := usesOf(sim); uses[last4(0)] != 1 || uses[last4(1)] != 1 {
		t.Errorf("uses %v: the second replica was to spare two keys", uses)
	}
	kept := everythingIn(t, redis)
	if !strings.Contains(kept, "uk_") {
		t.Errorf("Redis knows nothing of the keys: %q", kept)
	}
	for _, secret := range secrets {
		if strings.Contains(kept, secret) {
			t.Errorf("Redis keeps %q", secret)
		}
	}
}

// everythingIn is all that a Redis holds: names, types and values.
func everythingIn(t *testing.T, redis *redistest.Server) string {
	t.Helper()
	names, ok := redis.Do(t, "keys", "*").([]any)
	if !ok {
		t.Fatal("KEYS answers no list")
	}
	var all strings.Builder
	for _, name := range names {
		kind := fmt.Sprint(redis.Do(t, "type", name))
		read := map[string][]any{
			"string": {"get", name}, "hash": {"hgetall", name}, "zset": {"zrange", name, 0, -1, "withscores"},
		}[kind]
		if read == nil {
			t.Fatalf("Redis keeps a %s under %v: add it here", kind, name)
		}
		fmt.Fprintln(&all, name, kind, redis.Do(t, read...))
	}
	return all.String()
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

// TestUpstreamKeyLimits counts requests for each key of a pool, and slots for the
// upstream.
func TestUpstreamKeyLimits(t *testing.T) {
	t.Parallel()
	r := pooled(t, fixture{limits: "  - {name: key-rpm, per: [upstream_key], requests: 5/m}\n  - {name: slots, per: [upstream], concurrency: 4}\n"}, "", fine, fine, fine)
	for i := range 15 {
		if got := r.post(ask); got.status != http.StatusOK {
			t.Fatalf("request %d: status %d, %s", i+1, got.status, got.body)
		}
	}
	got := r.post(ask)
	if got.status != http.StatusTooManyRequests || got.errorObject().Weir.Limit != "key-rpm" || got.header.Get("Retry-After") == "" {
		t.Errorf("status %d, headers %v, %s", got.status, got.header, got.body)
	}
	if low, high := spread(r.pool); low != 5 || high != 5 {
		t.Errorf("uses %v, want 5 of each", usesOf(r.pool))
	}
	r.settled(16)
	r.eventually("no slot is held", func() bool { return r.metric("weir_leases_held") == "0" })
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

// TestPoolCommand looks at a pool as an operator does, and changes it.
func TestPoolCommand(t *testing.T) {
	t.Parallel()
	r := pooled(t, fixture{}, "", always("fail=status:401"), always("fail=status:429,retry_after=100"), fine)
	r.post(ask)
	out, err := r.weir("pool")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Log("\n" + out)
	for _, want := range []string{"UPSTREAM", "quarantined", "rejected", "cooling", "rate limited", "1m", "healthy", "100.0 %", "rejected (401)", last4(2)} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	for _, tt := range []struct {
		args []string
		says string
		ok   bool
	}{
		{[]string{"pool", "disable", "k2"}, "1 key will not be used any more", true},
		{[]string{"pool", "reset", "k1"}, "1 key had failed", true},
		{[]string{"pool", "reset"}, "1 key had failed", true},
		{[]string{"pool", "enable", "nobody"}, "no pool has that key", false},
		{[]string{"pool", "enable", "k2", "--upstream", "sim"}, "no pool has that key", false},
		{[]string{"pool", "disable"}, "expected", false},
	} {
		if out, err := r.weir(tt.args...); (err == nil) != tt.ok || !strings.Contains(out, tt.says) {
			t.Errorf("weir %v: %v, %s", tt.args, err, out)
		}
	}
	// k0 and k1 fail again, and k2 is disabled.
	if got := r.post(ask); got.status != http.StatusServiceUnavailable {
		t.Errorf("status %d, %s", got.status, got.body)
	}
	if out, err := r.weir("pool", "enable", "k2"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if got := r.post(ask); got.status != http.StatusOK {
		t.Errorf("status %d, %s", got.status, got.body)
	}
	if got := r.overSocket("ops.sock", "/pools"); !strings.Contains(got, `"usable":1`) {
		t.Errorf("the pools: %s", got)
	}
	if body := r.do(http.MethodGet, "/health", "").body; !strings.Contains(body, `{"name":"pool","status":"ok","keys":3,"usable":1}`) {
		t.Errorf("health: %s", body)
	}
}

// TestPoolFile changes the file of a pool's keys while it serves.
func TestPoolFile(t *testing.T) {
	t.Parallel()
	sim := simulator.New(simulator.Options{
		Models: []simulator.Model{{Name: "p"}}, Keys: map[string]func(int64) string{poolKey(0): fine, poolKey(1): fine},
	})
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "keys.txt")
	writeFile(t, file, "# the first\n"+poolKey(0)+" main\n\n"+poolKey(7)+"   # not valid\n")
	r := start(t, fixture{
		upstreams: fmt.Sprintf("  - {name: pool, url: %q, keys: {file: %q}}\n", server.URL+"/v1", file),
		models:    "  - {name: p, upstreams: [pool]}\n",
	})
	usable := func() string { return r.metric(`weir_upstream_keys_usable{upstream="pool"}`) }
	for range 4 {
		if got := r.post(ask); got.status != http.StatusOK {
			t.Errorf("status %d, %s", got.status, got.body)
		}
	}
	if usable() != "1" {
		t.Errorf("%s keys are usable, want 1", usable())
	}
	writeFile(t, file, poolKey(0)+" main\n"+poolKey(1)+" more\n")
	r.eventually("the new key is used", func() bool { return usable() == "2" })
	for i, text := range []string{"", "two words and = more\n", poolKey(1) + "\n" + poolKey(1) + "\n"} {
		writeFile(t, file, text)
		r.eventually("the mistake is told", func() bool { return strings.Count(r.Log(), "the last good ones stay in force") > i })
	}
	if usable() != "2" {
		t.Errorf("%s keys are usable, want the last good ones", usable())
	}
	if got := r.post(ask); got.status != http.StatusOK {
		t.Errorf("status %d, %s", got.status, got.body)
	}
}

// TestDiscover serves the models that upstreams list.
func TestDiscover(t *testing.T) {
	t.Parallel()
	sim := simulator.New(simulator.Options{Models: []simulator.Model{{Name: "org/found", Context: 4321}}})
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	r := start(t, fixture{upstreams: fmt.Sprintf("  - {name: disc, url: %q, models: discover}\n", server.URL+"/v1")})
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
