package e2e

import (
	"context"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/ratelimit/redistest"
	"github.com/weir-gateway/weir/simulator"
)

// pair starts two replicas on one Redis and one upstream.
func pair(t *testing.T, redis *redistest.Server, f fixture) (a, b *rig) {
	t.Helper()
	f.redis, f.patience = redis.URL(), "1s" // a machine taken for busy is no fault of Redis here
	a = start(t, f)
	f.peer = a
	f.killed = false
	return a, start(t, f)
}

// askedAlways fails unless Redis decided everything, and says why it did not.
func askedAlways(t *testing.T, replicas ...*rig) {
	t.Helper()
	for _, r := range replicas {
		if n := r.metric("weir_exchanges_decided_alone_total"); n != "0" {
			t.Errorf("%s exchanges were decided without Redis", n)
		}
		for line := range strings.Lines(r.Log()) {
			if strings.Contains(line, "limit store") {
				t.Error(line)
			}
		}
	}
}

// flood sends n requests at once, by turns to the replicas, and counts statuses.
func flood(t *testing.T, n int, body string, replicas ...*rig) map[int]int {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	count := map[int]int{}
	gate := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-gate
			status := 0
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, replicas[i%len(replicas)].URL+"/v1/chat/completions", strings.NewReader(body))
			if err == nil {
				req.Header.Set("Authorization", "Bearer "+goodKey)
				req.Header.Set("Content-Type", "application/json")
				var resp *http.Response
				if resp, err = client.Do(req); err == nil {
					status = resp.StatusCode
					defer resp.Body.Close()
					_, err = readAll(resp)
				}
			}
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			count[status]++
		})
	}
	close(gate)
	wg.Wait()
	return count
}

// TestTwoReplicasHoldOneLimit asks two replicas for far more than is allowed.
func TestTwoReplicasHoldOneLimit(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	a, b := pair(t, redis, fixture{limits: "  - {name: key-rpm, per: [key], requests: 100/h}\n"})
	const requests, limit = floodSize, 100
	count := flood(t, requests, chat(), a, b)
	if count[200] != limit || count[429] != requests-limit {
		t.Errorf("statuses %v, want %d of 200 and %d of 429", count, limit, requests-limit)
	}
	if n := a.sim.Ledger().Len(); n != limit {
		t.Errorf("%d requests reached the upstream, want %d", n, limit)
	}
	askedAlways(t, a, b)
}

// TestTwoReplicasShareSlots asks two replicas for more streams than there are slots.
func TestTwoReplicasShareSlots(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	a, b := pair(t, redis, fixture{limits: "  - {name: slots, concurrency: 50}\n", model: "tokens=10,pace=500ms"})
	const requests, slots = floodSize, 50
	count := flood(t, requests, chat(`"stream":true`), a, b)
	if count[200] != slots || count[429] != requests-slots {
		t.Errorf("statuses %v, want %d of 200 and %d of 429", count, slots, requests-slots)
	}
	if n := a.sim.Ledger().MaxInFlight(); n != slots {
		t.Errorf("%d at a time reached the upstream, want %d", n, slots)
	}
	askedAlways(t, a, b)
	// All are free again.
	if count := flood(t, slots, chat(`"stream":true`, `"max_tokens":1`), a, b); count[200] != slots {
		t.Errorf("afterwards: statuses %v", count)
	}
}

// TestRetryAfterIsTheTruth comes back alone at exactly the time that was told.
func TestRetryAfterIsTheTruth(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	a, b := pair(t, redis, fixture{limits: "  - {name: qps, per: [key], requests: 5/s}\n"})
	for range 3 {
		count := flood(t, 30, chat(), a, b)
		if count[200] != 5 {
			t.Fatalf("statuses %v", count)
		}
		got := b.post(chat())
		ms, err := strconv.Atoi(got.header.Get("Retry-After-Ms"))
		if got.status != http.StatusTooManyRequests || err != nil {
			t.Fatalf("status %d, headers %v", got.status, got.header)
		}
		time.Sleep(time.Duration(ms) * time.Millisecond)
		if got := a.post(chat()); got.status != http.StatusOK {
			t.Errorf("after %d ms: status %d, %s", ms, got.status, got.body)
		}
		time.Sleep(1200 * time.Millisecond)
	}
}

// TestReplicaKilled kills a replica with live streams: its slots come free by
// themselves, and the other one does not notice.
func TestReplicaKilled(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	const streams = 200
	a, b := pair(t, redis, fixture{
		limits: "  - {name: slots, concurrency: 201}\n", model: "tokens=100000,pace=100ms", killed: true,
	})
	for range streams {
		resp, err := a.send(t.Context(), http.MethodPost, "/v1/chat/completions", chat(`"stream":true`, `"max_tokens":100000`))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("status %d", resp.StatusCode)
		}
	}
	if err := a.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	// One slot is left: requests of the other replica go on, one at a time.
	for range 20 {
		if got := b.post(chat(), "X-Simulate", "tokens=1,pace=1ms"); got.status != http.StatusOK {
			t.Fatalf("the other replica: status %d, %s", got.status, got.body)
		}
	}
	const look = 100 * time.Millisecond
	var took time.Duration
	for {
		took = time.Since(killed)
		count := flood(t, 50, chat(`"max_tokens":1`), b)
		if count[200] == 50 {
			break
		}
		if took > 40*time.Second {
			t.Fatalf("after %v: statuses %v", took, count)
		}
		time.Sleep(look)
	}
	if took > ratelimit.LeaseTTL+2*look {
		t.Errorf("the slots of the killed replica were free after %v, want 30 s", took)
	} else {
		t.Logf("free after %v", took)
	}
}

// TestRedisAway takes Redis away in several ways. Each limit does what it says,
// nobody waits, and afterwards the counts are those of what happened.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	faults := []struct {
		name       string
		begin, end func(*redistest.Server)
		empty      bool // Redis comes back without what it knew
	}{
		{"killed", (*redistest.Server).Kill, func(s *redistest.Server) { s.Restart(t) }, true},
		{"stopped", (*redistest.Server).Stop, (*redistest.Server).Continue, false},
	}
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			redis := redistest.Start(t)
			r := start(t, fixture{redis: redis.URL(), model: "tokens=5", limits: `
  - {name: open, per: [key], requests: 1000/h, on_store_failure: open}
  - {name: local, per: [user], requests: 1000/h}
`, keys: "  - {id: strict, secret: " + limitedKey + ", limits: [{name: strict, per: [key], requests: 100/h, on_store_failure: closed}]}\n"})
			served := int64(0)
			post := func() reply {
				got := r.post(chat())
				if got.status == http.StatusOK {
					served++
				}
				return got
			}
			if got := post(); got.status != http.StatusOK || got.header.Get("X-Weir-Limits") != "" {
				t.Fatalf("before: status %d, headers %v", got.status, got.header)
			}
			fault.begin(redis)
			var slowest time.Duration
			for range 30 {
				begin := time.Now()
				got := post()
				slowest = max(slowest, time.Since(begin))
				if got.status != http.StatusOK || got.header.Get("X-Weir-Limits") != "degraded" {
					t.Errorf("away: status %d, headers %v, %s", got.status, got.header, got.body)
				}
			}
			t.Logf("slowest answer while Redis is away: %v", slowest)
			if got := r.post(chat(), "Authorization", limitedKey); got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != "1" {
				t.Errorf("a closed limit: status %d, %s", got.status, got.body)
			}
			if got := r.do(http.MethodGet, "/health", ""); got.status != http.StatusOK || !strings.Contains(got.body, `"status":"away"`) {
				t.Errorf("health %d %s", got.status, got.body)
			}
			fault.end(redis)
			back := time.Now()
			r.eventually("Redis is asked again", func() bool { return post().header.Get("X-Weir-Limits") == "" })
			if took := time.Since(back); took > 2*time.Second {
				t.Errorf("Redis was asked again after %v, want 1 s", took)
			}
			r.eventually("nothing is owed", func() bool { return r.metric("weir_store_owed_exchanges") == "0" })
			if fault.empty {
				served-- // the first one was forgotten
			}
			rest, err := strconv.ParseInt(post().header.Get("X-Ratelimit-Remaining-Requests"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			if used := 1000 - rest; used != served {
				t.Errorf("Redis counts %d requests, %d were answered", used, served)
			}
		})
	}
}

// TestOverload asks for three times a limit on tokens. In no minute does the
// upstream generate more than the limit, and little of it is left unused.
func TestOverload(t *testing.T) {
	t.Parallel()
	length := 75 * time.Second
	if text := os.Getenv("WEIR_OVERLOAD"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	redis := redistest.Start(t)
	const limit = 60_000
	a, b := pair(t, redis, fixture{limits: "  - {name: tpm, tokens: 60000/m}\n", model: "tokens=200,ttft=50ms"})
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var sent atomic.Int64
	var wg sync.WaitGroup
	tick := time.NewTicker(70 * time.Millisecond) // 200 and 12 tokens each: three times the limit
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			wg.Go(func() {
				r := []*rig{a, b}[sent.Add(1)%2]
				_, _ = r.try(t.Context(), http.MethodPost, "/v1/chat/completions", chat(`"max_tokens":200`))
			})
		}
	}
	wg.Wait()
	checkWindows(t, limit, length, a, b)
}

// checkWindows computes from the ledger of the replicas' upstream the most that was taken
// in any minute, and how much of the limit was used in all. A request is charged for
// when it is admitted, and noted when it arrives: by the longest time that any took in
// between, two of them can seem closer than they were.
func checkWindows(t *testing.T, limit int64, length time.Duration, replicas ...*rig) {
	t.Helper()
	entries := replicas[0].sim.Ledger().Entries()
	came := map[string]time.Time{} // to weir
	replicas[0].eventually("all that reached the upstream is in a replica's ledger", func() bool {
		for _, r := range replicas {
			for _, rec := range r.records() {
				came[rec.RequestID] = rec.Time
			}
		}
		return !slices.ContainsFunc(entries, func(e simulator.Entry) bool { return came[e.RequestID].IsZero() })
	})
	var way time.Duration
	for _, e := range entries {
		way = max(way, e.Start.Sub(came[e.RequestID]))
	}
	if way > 5*time.Second {
		t.Errorf("a request took %v to the upstream: the test shows little", way)
	}
	var worst, total int64
	for i, first := range entries {
		var sum int64
		for _, e := range entries[i:] {
			if e.Start.Sub(first.Start) >= time.Minute-way {
				break
			}
			sum += e.Prompt + e.Completion
		}
		worst = max(worst, sum)
		total += first.Prompt + first.Completion
	}
	// The first minute may take a whole limit at once.
	share := float64(total) / (float64(limit) * max(1, length.Minutes()))
	t.Logf("%d requests served, the slowest of which took %v to the upstream; at most %d tokens in a minute, %.3f of the limit; %.3f used",
		len(entries), way, worst, float64(worst)/float64(limit), share)
	if worst > limit {
		t.Errorf("%d tokens in a minute, the limit is %d", worst, limit)
	}
	if share < 0.85 {
		t.Errorf("%.3f of the limit was used, want 0.85", share)
	}
}

// TestReplicaStopped stops a replica for longer than its leases live, as a machine
// does that sleeps. Meanwhile the other one may use its slots; once it goes on, no
// slot is held that nobody uses.
func TestReplicaStopped(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	const slots, own = 20, 10
	a, b := pair(t, redis, fixture{limits: "  - {name: slots, concurrency: 20}\n", model: "tokens=100000,pace=100ms"})
	long := chat(`"stream":true`, `"max_tokens":100000`)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	take := func(r *rig) int {
		resp, err := r.send(ctx, http.MethodPost, "/v1/chat/completions", long)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK {
			resp.Body.Close()
		}
		return resp.StatusCode
	}
	for range own {
		take(a)
	}
	if err := a.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(40 * time.Second)
	served := 0
	for range slots + 5 {
		if take(b) == http.StatusOK {
			served++
		}
	}
	if err := a.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if served != slots {
		t.Errorf("the other replica had %d slots while the first was stopped, want %d", served, slots)
	}
	if n := a.sim.Ledger().InFlight(); n > slots+own {
		t.Errorf("%d streams run, at most %d and the %d of the stopped replica may", n, slots, own)
	}
	if status := take(a); status != http.StatusTooManyRequests {
		t.Errorf("the replica that goes on: status %d, want 429: all slots are taken", status)
	}
	leave()
	short := chat(`"max_tokens":1`)
	a.eventually("all slots are free", func() bool { return flood(t, slots, short, a, b)[200] == slots })
}

// TestRedisDownAtStart starts weir before Redis.
func TestRedisDownAtStart(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	redis.Kill()
	r := start(t, fixture{redis: redis.URL(), limits: "  - {name: rpm, per: [key], requests: 2/m}\n"})
	for i, want := range []int{200, 200, 429} {
		if got := r.post(chat()); got.status != want || got.header.Get("X-Weir-Limits") != "degraded" {
			t.Errorf("request %d: status %d, headers %v", i, got.status, got.header)
		}
	}
	redis.Restart(t)
	r.eventually("Redis is asked", func() bool {
		return strings.Contains(r.do(http.MethodGet, "/health", "").body, `"store":{"status":"ok"`)
	})
	r.eventually("nothing is owed", func() bool { return r.metric("weir_store_owed_exchanges") == "0" })
	if got := r.post(chat()); got.status != http.StatusTooManyRequests || got.header.Get("X-Weir-Limits") != "" {
		t.Errorf("Redis does not know what was used without it: status %d, headers %v", got.status, got.header)
	}
}
