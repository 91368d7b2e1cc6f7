package e2e

import (
	"bufio"
	"context"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-gateway/weir/ledger"
	"github.com/weir-gateway/weir/simulator"
)

func TestRequestLimitIsExact(t *testing.T) {
	t.Parallel()
	const limit, requests = 50, 200
	r := start(t, fixture{limits: "  - {name: key-rpm, per: [key], requests: 50/m}\n"})
	replies := r.parallel(requests, func(int) (reply, error) {
		return r.try(t.Context(), http.MethodPost, "/v1/chat/completions", chat())
	})
	count := map[int]int{}
	for _, got := range replies {
		count[got.status]++
		if got.status == http.StatusTooManyRequests {
			checkRefusal(t, got)
		}
	}
	if count[200] != limit || count[429] != requests-limit {
		t.Errorf("statuses %v, want %d of 200 and %d of 429", count, limit, requests-limit)
	}
	if n := r.sim.Ledger().Len(); n != limit {
		t.Errorf("%d requests reached the upstream, want %d", n, limit)
	}
	outcomes := map[ledger.Outcome]int{}
	for _, rec := range r.settled(requests) {
		outcomes[rec.Outcome]++
	}
	if outcomes[ledger.OK] != limit || outcomes[ledger.Refused] != requests-limit {
		t.Errorf("ledger outcomes %v", outcomes)
	}
	// The limit is the key's: another one has its own.
	if got := r.post(chat(), "Authorization", otherKey); got.status != http.StatusOK {
		t.Errorf("another key: status %d", got.status)
	}
}

// checkRefusal looks at a 429 of the limit key-rpm.
func checkRefusal(t *testing.T, got reply) {
	t.Helper()
	e := got.errorObject()
	if e.Type != "requests" || got.code() != "rate_limit_exceeded" || e.Weir.Limit != "key-rpm" || e.Weir.Scope != "key good" || e.Weir.Max != 50 || e.Weir.Used != 50 {
		t.Errorf("error %+v", e)
	}
	for _, name := range []string{"Retry-After", "Retry-After-Ms", "X-Ratelimit-Reset-Requests", "X-Request-Id"} {
		if got.header.Get(name) == "" {
			t.Errorf("a refusal has no header %s: %v", name, got.header)
		}
	}
	if rest := got.header.Get("X-Ratelimit-Remaining-Requests"); rest != "0" {
		t.Errorf("remaining requests %q, want 0", rest)
	}
}

func TestConcurrencyLimitIsExact(t *testing.T) {
	t.Parallel()
	const limit, streams = 5, 20
	r := start(t, fixture{limits: "  - {name: key-slots, per: [key], concurrency: 5}\n", model: "tokens=10,pace=200ms"})
	replies := r.parallel(streams, func(int) (reply, error) {
		return r.try(t.Context(), http.MethodPost, "/v1/chat/completions", chat(`"stream":true`))
	})
	count := map[int]int{}
	for _, got := range replies {
		count[got.status]++
		if e := got.errorObject(); got.status == 429 && (e.Type != "concurrency" || e.Weir.Limit != "key-slots" || got.header.Get("Retry-After") != "1") {
			t.Errorf("error %+v, headers %v", e, got.header)
		}
	}
	if count[200] != limit || count[429] != streams-limit {
		t.Errorf("statuses %v, want %d of 200 and %d of 429", count, limit, streams-limit)
	}
	if n := r.sim.Ledger().MaxInFlight(); n != limit {
		t.Errorf("at most %d at a time reached the upstream, want %d", n, limit)
	}
	// A slot is free the moment the last answer has ended.
	for range 20 {
		replies := r.parallel(limit, func(int) (reply, error) {
			return r.try(t.Context(), http.MethodPost, "/v1/chat/completions", chat(`"stream":true`), "X-Simulate", "tokens=2,pace=1ms")
		})
		for _, got := range replies {
			if got.status != http.StatusOK {
				t.Fatalf("one after the other: status %d: %s", got.status, got.body)
			}
		}
	}
}

func TestTokenLimit(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{limits: "  - {name: key-tpm, per: [key], tokens: 1000/m}\n"})
	got := r.post(chat(`"max_tokens":5000`))
	if got.status != http.StatusTooManyRequests || got.header.Get("X-Should-Retry") != "false" || got.errorObject().Type != "tokens" {
		t.Errorf("a request beyond the whole limit: status %d, headers %v, %s", got.status, got.header, got.body)
	}
	// What is not used is given back: each of these reserves 800 and more.
	for i := range 10 {
		if got := r.post(chat(`"max_tokens":800`), "X-Simulate", "tokens=5"); got.status != http.StatusOK {
			t.Fatalf("request %d: status %d: %s", i, got.status, got.body)
		}
		r.settled(i + 2)
	}
	used := int64(0)
	for _, e := range r.sim.Ledger().Entries() {
		used += e.Prompt + e.Completion
	}
	got = r.post(chat(`"max_tokens":990`))
	if e := got.errorObject(); got.status != http.StatusTooManyRequests || e.Weir.Used != used {
		t.Errorf("status %d, used %d, want 429 and the %d tokens that the upstream counted", got.status, e.Weir.Used, used)
	}
}

func TestLimitsAreAllOrNothing(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{limits: "  - {name: key-rpm, per: [key], requests: 3/m}\n  - {name: site-tpm, tokens: 500/m}\n"})
	for range 5 {
		if got := r.post(chat(`"max_tokens":5000`)); got.status != http.StatusTooManyRequests {
			t.Fatalf("status %d, want 429", got.status)
		}
	}
	// Refusals by one limit charged nothing of the other.
	for i := range 3 {
		if got := r.post(chat(`"max_tokens":8`)); got.status != http.StatusOK {
			t.Fatalf("request %d: status %d: %s", i, got.status, got.body)
		}
	}
	if got := r.post(chat(`"max_tokens":8`)); got.errorObject().Weir.Limit != "key-rpm" {
		t.Errorf("the fourth: %s", got.body)
	}
}

// TestAborts ends streams at random points. Whatever the point, the exchange is
// settled once and holds nothing.
func TestAborts(t *testing.T) {
	t.Parallel()
	const aborts, atOnce = 500, 50
	r := start(t, fixture{
		limits: "  - {name: site-slots, concurrency: 50}\n  - {name: key-tpm, per: [key], tokens: 100000000/m}\n",
		model:  "tokens=40,pace=5ms,ttft=10ms",
	})
	// Some come to their end: by them weir knows how many tokens a text has.
	const whole = 20
	for range whole {
		if got := r.post(chat(`"stream":true`)); got.status != http.StatusOK {
			t.Fatalf("status %d: %s", got.status, got.body)
		}
	}
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for range aborts {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			r.abort()
		})
	}
	wg.Wait()
	r.eventually("no exchange is live", func() bool { return r.metric("weir_exchanges_live") == "0" })
	r.eventually("no slot is held", func() bool { return r.metric("weir_leases_held") == "0" })
	if err := r.sim.Ledger().Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Lines are written in batches of a tenth of a second.
	r.eventually("each exchange of the upstream's is in weir's ledger", r.allSettled)
	r.reconcile(aborts + whole)
}

// abort begins a request and leaves it: a stream after some of its events, wherever a busy
// machine has them, or whatever it is after a random time, also before there is an answer.
func (r *rig) abort() {
	if rand.IntN(4) > 0 {
		r.abortStream(1 + rand.IntN(35))
		return
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), rand.N(100*time.Millisecond)+time.Millisecond)
	defer cancel()
	body := chat(`"stream":true`)
	if rand.IntN(2) == 0 {
		body = chat()
	}
	_, _ = r.try(ctx, http.MethodPost, "/v1/chat/completions", body) // it is meant to fail
}

// abortStream leaves a stream after that many events.
func (r *rig) abortStream(events int) {
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	resp, err := r.send(ctx, http.MethodPost, "/v1/chat/completions", chat(`"stream":true`))
	if err != nil {
		r.t.Error(err)
		return
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for events > 0 && lines.Scan() {
		if strings.HasPrefix(lines.Text(), "data:") {
			events--
		}
	}
}

// allSettled tells whether weir's ledger has all that reached the upstream.
func (r *rig) allSettled() bool {
	settled := map[string]bool{}
	for _, rec := range r.records() {
		settled[rec.RequestID] = true
	}
	for _, e := range r.sim.Ledger().Entries() {
		if !settled[e.RequestID] {
			return false
		}
	}
	return true
}

// reconcile compares weir's ledger with the simulator's: each exchange that
// reached the upstream was settled once, with what it generated.
func (r *rig) reconcile(atMost int) {
	r.t.Helper()
	byID := map[string]ledger.Record{}
	for _, rec := range r.records() {
		if _, twice := byID[rec.RequestID]; twice {
			r.t.Errorf("request %s was settled twice", rec.RequestID)
		}
		byID[rec.RequestID] = rec
	}
	entries := r.sim.Ledger().Entries()
	if len(entries) == 0 || len(entries) > atMost || len(byID) > atMost {
		r.t.Fatalf("%d exchanges upstream, %d settled, at most %d were sent", len(entries), len(byID), atMost)
	}
	var truth, counted int64
	aborted := 0
	for _, e := range entries {
		rec, ok := byID[e.RequestID]
		if !ok {
			r.t.Errorf("request %s reached the upstream and was not settled", e.RequestID)
			continue
		}
		if e.Outcome == simulator.OutcomeClientGone {
			aborted++
		}
		if e.Stream {
			truth += e.Completion
			counted += rec.Tokens.Output
		}
		if rec.Source == ledger.Exact && rec.Tokens.Output != e.Completion {
			r.t.Errorf("request %s: %d tokens counted as exact, %d generated", e.RequestID, rec.Tokens.Output, e.Completion)
		}
		if rec.Tokens.Input == 0 || rec.Source == ledger.Missing {
			r.t.Errorf("request %s: %+v was settled for nothing", e.RequestID, rec)
		}
	}
	if aborted < len(entries)/4 {
		r.t.Errorf("only %d of %d were aborted: the test shows little", aborted, len(entries))
	}
	// What was generated but had not reached weir when the client left is not
	// seen by anyone.
	if counted < truth*85/100 || counted > truth*115/100 {
		r.t.Errorf("%d tokens counted in streams, %d generated", counted, truth)
	}
	r.t.Logf("%d exchanges, %d aborted; %d tokens generated in streams, %d counted", len(entries), aborted, truth, counted)
}

// parallel calls f n times at once.
func (r *rig) parallel(n int, f func(i int) (reply, error)) []reply {
	r.t.Helper()
	replies, errs := make([]reply, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { replies[i], errs[i] = f(i) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			r.t.Fatal(err)
		}
	}
	return replies
}

func TestSettledAtDone(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{limits: "  - {name: key-slots, per: [key], concurrency: 1}\n", model: "tokens=3"})
	for i := range 200 {
		resp, err := r.send(t.Context(), http.MethodPost, "/v1/chat/completions", chat(`"stream":true`))
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("request %d: status %d", i, resp.StatusCode)
		}
		// As SDKs do: read to [DONE], and hang up.
		var got strings.Builder
		buf := make([]byte, 512)
		for !strings.Contains(got.String(), "[DONE]") {
			n, err := resp.Body.Read(buf)
			got.Write(buf[:n])
			if err != nil && !strings.Contains(got.String(), "[DONE]") {
				t.Fatal(err)
			}
		}
		resp.Body.Close()
	}
	for _, rec := range r.settled(200) {
		if rec.Source != ledger.Exact || rec.Outcome != ledger.OK || rec.Tokens.Output != 3 {
			t.Errorf("ledger %+v", rec)
		}
	}
}
