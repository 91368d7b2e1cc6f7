package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-gateway/weir/admin"
	"github.com/weir-gateway/weir/ledger"
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

// TestRestingKeyComesBack uses a key again after the time that its 429 told, and not
// before.
func TestRestingKeyComesBack(t *testing.T) {
	t.Parallel()
	r := pooled(t, fixture{}, "", func(n int64) string {
		if n == 0 {
			return "fail=status:429,retry_after=3"
		}
		return ""
	}, fine)
	var uses []time.Time
	r.eventually("the key is used again", func() bool {
		if got := r.post(ask); got.status != http.StatusOK {
			t.Errorf("status %d, %s", got.status, got.body)
		}
		uses = nil
		for _, e := range r.pool.Ledger().Entries() {
			if e.Auth == last4(0) {
				uses = append(uses, e.Start)
			}
		}
		return len(uses) > 1
	})
	gap := uses[1].Sub(uses[0])
	t.Logf("used again after %v", gap)
	if gap < 3*time.Second || gap > 6*time.Second {
		t.Errorf("used again after %v, the upstream said 3 s", gap)
	}
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
