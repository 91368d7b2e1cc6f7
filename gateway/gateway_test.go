package gateway

import (
	"context"
	"math"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/ratelimit/memstore"
	"github.com/weir-gateway/weir/telemetry"
	"github.com/weir-gateway/weir/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newGateway(t *testing.T, keys map[string]*keyring.Key, limits ...config.Limit) (*Gateway, *memstore.Store) {
	t.Helper()
	cfg := &config.Config{
		Upstreams: []config.Upstream{{Name: "up"}},
		Models: []config.Model{
			{Name: "big", Aliases: []string{"alias"}, Upstreams: []string{"up"}, MaxOutput: 1000},
			{Name: "small", Upstreams: []string{"up"}, Context: 100},
			{Name: "free", Upstreams: []string{"up"}},
		},
		Plans:  map[string][]config.Limit{"free": {{Name: "slots", Per: []config.Scope{config.PerKey}, Unit: config.Concurrency, Amount: 1}}},
		Limits: limits, Requests: config.Bounds{MaxChoices: math.MaxInt64},
	}
	models, err := upstream.New(cfg, upstream.Options{})
	if err != nil {
		t.Fatal(err)
	}
	store := memstore.New(memstore.Options{})
	g, err := New(Options{
		Config: cfg, Models: models, Keys: keyring.Fixed(keys), Limits: Direct(store), Metrics: telemetry.NewMetrics(), Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return g, store
}

func oneKey() map[string]*keyring.Key { return map[string]*keyring.Key{"s": {ID: "k"}} }

func call(key, body string) Call {
	return Call{RequestID: "r", KeyID: key, Endpoint: openai.ChatCompletions, Body: []byte(body), Start: time.Now()}
}

const hello = `{"model":"big","messages":[{"role":"user","content":"hello"}]}`

// TestLeasesAreKeptWhileAStreamRuns lets an answer take an hour.
func TestLeasesAreKeptWhileAStreamRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, store := newGateway(t, oneKey(), config.Limit{Name: "slots", Unit: config.Concurrency, Amount: 1})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = g.RenewLeases(ctx) }()
		x, refused := g.Admit(ctx, call("k", hello))
		if refused != nil {
			t.Fatal(refused)
		}
		time.Sleep(time.Hour)
		if _, refused := g.Admit(ctx, call("k", hello)); refused == nil || refused.Status != http.StatusTooManyRequests {
			t.Errorf("after an hour the slot was given away: %v", refused)
		}
		x.End()
		if s := store.Stats(); s.Leases != 0 || s.Receipts != 0 {
			t.Errorf("after the end: %+v", s)
		}
		if y, refused := g.Admit(ctx, call("k", hello)); refused != nil {
			t.Errorf("after the end: %v", refused)
		} else {
			y.End()
		}
		cancel()
		synctest.Wait()
	})
}

// TestSettledExchangesAreNotRenewed keeps a stream open long after its end was
// settled, until the store has forgotten it.
func TestSettledExchangesAreNotRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, store := newGateway(t, oneKey(), config.Limit{Name: "slots", Unit: config.Concurrency, Amount: 1})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = g.RenewLeases(ctx) }()
		x, refused := g.Admit(ctx, call("k", hello))
		if refused != nil {
			t.Fatal(refused)
		}
		x.Answer(Head{Status: 200, ContentType: "text/event-stream"})
		x.Write([]byte("data: [DONE]\n\n"), false)
		time.Sleep(10 * time.Minute)
		if s := store.Stats(); s.Leases != 0 {
			t.Errorf("a settled exchange holds %d slots again", s.Leases)
		}
		x.End()
		cancel()
		synctest.Wait()
	})
}

func TestDrain(t *testing.T) {
	g, _ := newGateway(t, oneKey())
	x, refused := g.Admit(t.Context(), call("k", hello))
	if refused != nil {
		t.Fatal(refused)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if n := g.Drain(ctx); n != 1 {
		t.Errorf("%d exchanges left, want 1", n)
	}
	time.AfterFunc(10*time.Millisecond, x.End)
	if n := g.Drain(t.Context()); n != 0 {
		t.Errorf("%d exchanges left, want none", n)
	}
}

func TestScopes(t *testing.T) {
	key := &keyring.Key{ID: "k_1", User: "a/b:c%", Team: "t"}
	tests := []struct {
		per  []config.Scope
		want string
	}{
		{nil, ""},
		{[]config.Scope{config.PerKey}, "key:k_1"},
		{[]config.Scope{config.PerUser}, "user:a%2Fb%3Ac%25"},
		{[]config.Scope{config.PerTeam, config.PerModel}, "team:t/model:qwen/qwen3"},
		{[]config.Scope{config.PerModel}, "model:qwen/qwen3"},
		{[]config.Scope{config.PerModel, config.PerKey}, "key:k_1/model:qwen/qwen3"},
		{[]config.Scope{config.PerPlan}, "plan:key:k_1"}, // a key without a plan is one of its own
	}
	limit, err := ratelimit.NewLimit("l", ratelimit.Concurrency, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		r := newRule(limit, tt.per, key)
		if got := r.scopeFor("qwen/qwen3"); got != tt.want {
			t.Errorf("per %v: scope %q, want %q", tt.per, got, tt.want)
		}
	}
	if got := scopeName("user:a%2Fb%3Ac%25/model:m"); got != "user a/b:c%, model m" {
		t.Errorf("scope for people: %q", got)
	}
}

func TestOverride(t *testing.T) {
	limit := func(name string, amount int64) config.Limit { return config.Limit{Name: name, Amount: amount} }
	got := override([]config.Limit{limit("a", 1), limit("b", 1)}, []config.Limit{limit("b", 2), limit("c", 2)}, []config.Limit{limit("a", 3)})
	want := []config.Limit{limit("a", 3), limit("b", 2), limit("c", 2)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
}

func TestPlanOfAKey(t *testing.T) {
	g, _ := newGateway(t, map[string]*keyring.Key{"s": {ID: "free", Plan: "free"}, "u": {ID: "paying"}})
	for key, most := range map[string]int{"free": 1, "paying": 3} {
		var open []*Exchange
		for range 3 {
			if x, refused := g.Admit(t.Context(), call(key, hello)); refused == nil {
				open = append(open, x)
			}
		}
		if len(open) != most {
			t.Errorf("key %s: %d at a time, want %d", key, len(open), most)
		}
		for _, x := range open {
			x.End()
		}
	}
}

func TestReservation(t *testing.T) {
	tests := []struct {
		name, body string
		ep         openai.Endpoint
		output     int64
	}{
		{"the client's max_tokens", `{"model":"big","messages":[],"max_tokens":7}`, openai.ChatCompletions, 7},
		{"several choices", `{"model":"big","messages":[],"max_tokens":7,"n":3}`, openai.ChatCompletions, 21},
		{"the model's default", `{"model":"big","messages":[]}`, openai.ChatCompletions, 1000},
		{"no more than the window", `{"model":"small","messages":[]}`, openai.ChatCompletions, 100},
		{"several prompts", `{"model":"big","prompt":["a","b"],"max_tokens":7,"n":2}`, openai.Completions, 28},
		{"more than can be", `{"model":"big","prompt":["a","b"],"max_tokens":2147483647,"n":2147483647}`, openai.Completions, ratelimit.MaxAmount},
	}
	for _, tt := range tests {
		g, _ := newGateway(t, oneKey())
		c := call("k", tt.body)
		c.Endpoint = tt.ep
		x, refused := g.Admit(t.Context(), c)
		if refused != nil {
			t.Fatalf("%s: %v", tt.name, refused)
		}
		if x.reserved.output != tt.output {
			t.Errorf("%s: %d output tokens reserved, want %d", tt.name, x.reserved.output, tt.output)
		}
		if want := x.input + (x.input*15+99)/100; x.reserved.input != want {
			t.Errorf("%s: %d input tokens reserved of an estimate of %d, want %d", tt.name, x.reserved.input, x.input, want)
		}
		x.End()
	}
}

// TestSmallLimit has answers that nobody bounds take all of a limit that is smaller than
// what is reserved for them, and not be refused for it.
func TestSmallLimit(t *testing.T) {
	limits := []config.Limit{{Name: "tpm", Unit: config.Tokens, Amount: 500, Window: time.Minute}}
	for name, tt := range map[string]struct {
		body    string
		refused bool
	}{
		"no max_tokens":                 {`{"model":"free","messages":[{"role":"user","content":"hello"}]}`, false},
		"more than the limit":           {`{"model":"free","messages":[{"role":"user","content":"hello"}],"max_tokens":600}`, true},
		"a prompt longer than it":       {`{"model":"free","messages":[{"role":"user","content":"` + strings.Repeat("hello ", 1000) + `"}]}`, true},
		"several answers of any length": {`{"model":"free","messages":[{"role":"user","content":"hello"}],"n":3}`, true},
	} {
		g, _ := newGateway(t, oneKey(), limits...)
		x, refused := g.Admit(t.Context(), call("k", tt.body))
		if (refused != nil) != tt.refused {
			t.Errorf("%s: %v", name, refused)
		}
		if refused != nil {
			continue
		}
		// It has all of it: there is nothing left for another.
		if _, refused := g.Admit(t.Context(), call("k", tt.body)); refused == nil || refused.NoRetry {
			t.Errorf("%s: the second is answered %v", name, refused)
		}
		x.End()
	}
}

func TestLimitErrors(t *testing.T) {
	limits := []config.Limit{
		{Name: "rpm", Per: []config.Scope{config.PerKey}, Unit: config.Requests, Amount: 2, Window: time.Minute},
		{Name: "tpm", Unit: config.Tokens, Amount: 3000, Window: time.Minute},
	}
	g, _ := newGateway(t, oneKey(), limits...)
	_, tooLarge := g.Admit(t.Context(), call("k", `{"model":"big","messages":[],"max_tokens":9000}`))
	if tooLarge == nil || !tooLarge.NoRetry || tooLarge.Type != "tokens" || !strings.Contains(tooLarge.Message, "more than the limit tpm ever allows") {
		t.Errorf("too large: %v", tooLarge)
	}
	for range 2 {
		x, refused := g.Admit(t.Context(), call("k", hello))
		if refused != nil {
			t.Fatal(refused)
		}
		defer x.End()
	}
	_, e := g.Admit(t.Context(), call("k", hello))
	if e == nil || e.Type != "requests" || e.Detail.Limit != "rpm" || e.Detail.Used != 2 || e.Detail.Max != 2 || e.RetryAfter <= time.Minute/2 ||
		!strings.Contains(e.Message, "the limit rpm allows 2 requests in 1m0s, counted for key k; 2 are used") {
		t.Errorf("refusal: %+v", e)
	}
	headers := map[string]string{}
	for _, h := range e.Headers() {
		headers[h.Name] = h.Value
	}
	if headers["x-ratelimit-limit-requests"] != "2" || headers["x-ratelimit-remaining-requests"] != "0" || headers["x-ratelimit-limit-tokens"] != "3000" {
		t.Errorf("headers %v", headers)
	}
}

func TestResetText(t *testing.T) {
	for d, want := range map[time.Duration]string{
		12 * time.Millisecond: "12ms", time.Second: "1s", 6 * time.Minute: "6m0s", time.Nanosecond: "1ms", 0: "0s",
	} {
		if got := resetText(d); got != want {
			t.Errorf("resetText(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"7": 7 * time.Second, "": 0, "soon": 0, "-3": 0, "Wed, 21 Oct 2015 07:28:00 GMT": 0,
	} {
		if got := retryAfter(header); got != want {
			t.Errorf("retryAfter(%q) = %v, want %v", header, got, want)
		}
	}
	later := time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat)
	if got := retryAfter(later); got < 80*time.Second || got > 91*time.Second {
		t.Errorf("a date in 90 s: %v", got)
	}
}

func TestClientStatus(t *testing.T) {
	for upstream, want := range map[int]int{
		400: 400, 404: 404, 408: 408, 422: 422, 429: 429, 401: 0, 402: 0, 403: 0, 301: 0, 100: 0,
		500: 502, 502: 502, 503: 503, 504: 504, 529: 502,
	} {
		if got := clientStatus(upstream); got != want {
			t.Errorf("clientStatus(%d) = %d, want %d", upstream, got, want)
		}
	}
}

// BenchmarkExchange is the gateway's part of a plain request.
func BenchmarkExchange(b *testing.B) {
	cfg := &config.Config{
		Upstreams: []config.Upstream{{Name: "up"}}, Models: []config.Model{{Name: "big", Upstreams: []string{"up"}, MaxOutput: 1000}},
		Limits: []config.Limit{
			{Name: "rps", Per: []config.Scope{config.PerKey}, Unit: config.Requests, Amount: 1 << 40, Window: time.Second},
			{Name: "tpm", Per: []config.Scope{config.PerKey}, Unit: config.Tokens, Amount: 1 << 40, Window: time.Minute},
			{Name: "slots", Unit: config.Concurrency, Amount: 1 << 30},
		},
	}
	models, err := upstream.New(cfg, upstream.Options{})
	if err != nil {
		b.Fatal(err)
	}
	g, err := New(Options{
		Config: cfg, Models: models, Keys: keyring.Fixed(oneKey()), Limits: Direct(memstore.New(memstore.Options{})),
		Metrics: telemetry.NewMetrics(), Log: zerolog.Nop(),
	})
	if err != nil {
		b.Fatal(err)
	}
	answer := []byte(`{"choices":[{"message":{"content":"hello there"}}],"usage":{"prompt_tokens":3,"completion_tokens":4}}`)
	b.ReportAllocs()
	for b.Loop() {
		x, refused := g.Admit(b.Context(), call("k", hello))
		if refused != nil {
			b.Fatal(refused)
		}
		x.Body()
		x.Answer(Head{Status: 200, ContentType: "application/json"})
		x.Write(answer, true)
		x.End()
	}
}
