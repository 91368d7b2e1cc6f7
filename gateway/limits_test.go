package gateway

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/ratelimit/failover"
)

// finish lets an exchange produce so many tokens.
func finish(t *testing.T, x *Exchange, output int) {
	t.Helper()
	x.Body()
	x.Answer(Head{Status: 200, ContentType: "text/event-stream"})
	events := `data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":` +
		strconv.Itoa(output) + `}}` + "\n\ndata: [DONE]\n\n"
	x.Write([]byte(events), true)
	x.End()
}

func TestCalendarQuota(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	g, _ := newGateway(t, oneKey(), config.Limit{
		Name: "day", Per: []config.Scope{config.PerKey}, Unit: config.Requests, Amount: 1, Calendar: config.Day, Location: berlin,
	})
	x, refused := g.Admit(t.Context(), call("k", hello))
	if refused != nil {
		t.Fatal(refused)
	}
	defer x.End()
	_, e := g.Admit(t.Context(), call("k", hello))
	if e == nil || e.Status != http.StatusTooManyRequests || e.Type != "insufficient_quota" || e.Code != "insufficient_quota" || !e.NoRetry {
		t.Fatalf("refusal %+v, want insufficient_quota and no retry", e)
	}
	if !strings.Contains(e.Message, "allows 1 requests in a day") {
		t.Errorf("message %q", e.Message)
	}
}

func TestReserveKinds(t *testing.T) {
	limit := func(r config.Reserve, fixed int64) config.Limit {
		return config.Limit{Name: "tpm", Unit: config.OutputTokens, Amount: 1 << 40, Window: time.Minute, Reserve: r, Fixed: fixed}
	}
	cost := func(t *testing.T, g *Gateway) int64 {
		t.Helper()
		x, refused := g.Admit(t.Context(), call("k", hello))
		if refused != nil {
			t.Fatal(refused)
		}
		defer x.End()
		return x.charges[0].Cost
	}
	t.Run("max", func(t *testing.T) {
		g, _ := newGateway(t, oneKey(), limit(config.ReserveMax, 0))
		if got := cost(t, g); got != 1000 {
			t.Errorf("%d tokens, want the model's 1000", got)
		}
	})
	t.Run("fixed", func(t *testing.T) {
		g, _ := newGateway(t, oneKey(), limit(config.ReserveFixed, 64))
		if got := cost(t, g); got != 64 {
			t.Errorf("%d tokens, want 64", got)
		}
	})
	t.Run("learned", func(t *testing.T) {
		g, _ := newGateway(t, oneKey(), limit(config.ReserveLearned, 0))
		if got := cost(t, g); got != 1000 {
			t.Errorf("%d tokens before anything was learned, want 1000", got)
		}
		for range enough {
			x, refused := g.Admit(t.Context(), call("k", hello))
			if refused != nil {
				t.Fatal(refused)
			}
			finish(t, x, 100)
		}
		if got := cost(t, g); got < 100 || got > 150 {
			t.Errorf("%d tokens after answers of 100, want 100 to 150", got)
		}
	})
}

func TestWhenPlan(t *testing.T) {
	g, _ := newGateway(t, map[string]*keyring.Key{"s": {ID: "free", Plan: "free"}, "u": {ID: "paying"}},
		config.Limit{Name: "trial", Per: []config.Scope{config.PerKey}, Unit: config.Requests, Amount: 1, Window: time.Hour, WhenPlan: "free"})
	for key, most := range map[string]int{"free": 1, "paying": 3} {
		admitted := 0
		for range 3 {
			if x, refused := g.Admit(t.Context(), call(key, hello)); refused == nil {
				admitted++
				x.End()
			}
		}
		if admitted != most {
			t.Errorf("key %s: %d admitted, want %d", key, admitted, most)
		}
	}
}

func TestShadowLimitsRefuseNothing(t *testing.T) {
	g, store := newGateway(t, oneKey(), config.Limit{Name: "trial", Unit: config.Requests, Amount: 1, Window: time.Hour, Shadow: true})
	for range 3 {
		x, refused := g.Admit(t.Context(), call("k", hello))
		if refused != nil {
			t.Fatal(refused)
		}
		if len(x.headers) != 0 {
			t.Errorf("a shadow limit shows in headers: %v", x.headers)
		}
		x.End()
	}
	limit, err := ratelimit.New(ratelimit.Spec{Name: "trial", Unit: ratelimit.Requests, Max: 1, Window: time.Hour, Shadow: true})
	if err != nil {
		t.Fatal(err)
	}
	states, err := store.Peek(t.Context(), []ratelimit.Charge{{Limit: limit}})
	if err != nil || states[0].Used != 3 {
		t.Errorf("states %v, error %v; want 3 used", states, err)
	}
}

// TestDeniedBeforeTheBody refuses at the door what was refused a moment ago.
func TestDeniedBeforeTheBody(t *testing.T) {
	g, _ := newGateway(t, oneKey(), config.Limit{Name: "rpm", Per: []config.Scope{config.PerKey}, Unit: config.Requests, Amount: 1, Window: time.Minute})
	key, _ := g.keys.Ring().ByID("k")
	c := Call{RequestID: "r", KeyID: "k", Endpoint: openai.ChatCompletions, Start: time.Now()}
	if e := g.Denied(c, key); e != nil {
		t.Fatalf("before anything: %v", e)
	}
	x, refused := g.Admit(t.Context(), call("k", hello))
	if refused != nil {
		t.Fatal(refused)
	}
	if e := g.Denied(c, key); e != nil {
		t.Fatalf("while the limit was never met: %v", e)
	}
	if _, refused = g.Admit(t.Context(), call("k", hello)); refused == nil {
		t.Fatal("the second was admitted")
	}
	c.Start = time.Now()
	e := g.Denied(c, key)
	if e == nil || e.Status != http.StatusTooManyRequests || e.Detail.Limit != "rpm" || e.RetryAfter <= 0 || e.RetryAfter > refused.RetryAfter {
		t.Errorf("a moment later: %+v", e)
	}
	c.Endpoint = openai.Unknown
	if e := g.Denied(c, key); e != nil {
		t.Errorf("an endpoint without limits: %v", e)
	}
	c.Endpoint, c.Start = openai.ChatCompletions, time.Now().Add(denialTTL+time.Second)
	if e := g.Denied(c, key); e != nil {
		t.Errorf("a second later it is asked again: %v", e)
	}
	x.End()
}

func TestDenialsAreBounded(t *testing.T) {
	var ds denials
	limit, err := ratelimit.NewLimit("l", ratelimit.Requests, 1, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for i := range maxDenials + 100 {
		c := []ratelimit.Charge{{Limit: limit, Scope: strconv.Itoa(i + 1), Cost: 1}}
		ds.note(c, &ratelimit.Decision{Refused: 0, RetryAfter: time.Minute, States: []ratelimit.State{{Used: 1}}}, failover.Shared, now)
	}
	if n := len(ds.byPlace); n != maxDenials {
		t.Errorf("%d are remembered, want %d", n, maxDenials)
	}
	ds.note([]ratelimit.Charge{{Limit: limit, Scope: "late", Cost: 1}},
		&ratelimit.Decision{Refused: 0, RetryAfter: time.Minute, States: []ratelimit.State{{Used: 1}}}, failover.Shared, now.Add(time.Second))
	if n := len(ds.byPlace); n != 1 {
		t.Errorf("%d are remembered a second later, want the new one", n)
	}
}

// TestRepeatedRefusalsSayHowTheyWereDecided repeats a refusal that the store had no part in.
func TestRepeatedRefusalsSayHowTheyWereDecided(t *testing.T) {
	limit, err := ratelimit.NewLimit("l", ratelimit.Requests, 1, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []failover.Mode{failover.Shared, failover.Alone} {
		var ds denials
		charges := []ratelimit.Charge{{Limit: limit, Scope: "s", Cost: 1}}
		now := time.Now()
		ds.note(charges, &ratelimit.Decision{Refused: 0, RetryAfter: time.Minute, States: []ratelimit.State{{Used: 1}}}, mode, now)
		e := ds.known(charges, now)
		if e == nil {
			t.Fatal("the refusal is not repeated")
		}
		says := slices.Contains(e.Extra, openai.Header{Name: "x-weir-limits", Value: "degraded"})
		if says != (mode == failover.Alone) {
			t.Errorf("mode %v: headers %v", mode, e.Extra)
		}
	}
}
