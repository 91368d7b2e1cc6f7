package gateway

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/ratelimit/memstore"
	"github.com/weir-gateway/weir/telemetry"
	"github.com/weir-gateway/weir/upstream"
	"github.com/weir-gateway/weir/upstream/pool"
)

// journey is a gateway before a pool of keys and a server behind it.
type journey struct {
	t     *testing.T
	g     *Gateway
	store *memstore.Store
	dir   *upstream.Directory
}

func newJourney(t *testing.T, keys, tries int, limits ...config.Limit) *journey {
	t.Helper()
	p := &config.Pool{MaxKeys: 3, Tries: tries}
	for i := range keys {
		p.Keys = append(p.Keys, config.PoolKey{Key: config.Secret(fmt.Sprintf("sk-pool-%d-0123456789", i)), Label: fmt.Sprintf("k%d", i)})
	}
	base := func(path string) *url.URL { return &url.URL{Scheme: "http", Host: "127.0.0.1:1", Path: path} }
	cfg := &config.Config{
		Upstreams: []config.Upstream{{Name: "pool", URL: base("/p/v1"), Pool: p}, {Name: "behind", URL: base("/v1"), Key: "sk-behind"}},
		Models: []config.Model{
			{Name: "only", Upstreams: []string{"pool"}},
			{Name: "both", Upstreams: []string{"pool", "behind"}, ServedAs: map[string]string{"behind": "other-name"}},
		},
		Limits: limits,
	}
	dir, err := upstream.New(cfg, upstream.Options{Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	j := &journey{t: t, dir: dir, store: memstore.New(memstore.Options{})}
	j.g, err = New(Options{
		Config: cfg, Models: dir, Limits: Direct(j.store), Metrics: telemetry.NewMetrics(), Log: zerolog.Nop(),
		Keys: keyring.Fixed(map[string]*keyring.Key{"secret": {ID: "good"}}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func (j *journey) admit(model string) *Exchange {
	j.t.Helper()
	x, err := j.g.Admit(j.t.Context(), Call{
		RequestID: "r", KeyID: "good", Endpoint: openai.ChatCompletions, Start: time.Now(),
		Body: []byte(`{"model":"` + model + `","messages":[{"role":"user","content":"hi"}],"max_tokens":10}`),
	})
	if err != nil {
		j.t.Fatal(err)
	}
	return x
}

func (j *journey) attempt(x *Exchange, upstream string, number int) *Attempt {
	j.t.Helper()
	at, err := j.g.Attempt(j.t.Context(), x.ID(), upstream, number)
	if err != nil {
		j.t.Fatalf("attempt %d at %s: %v", number, upstream, err)
	}
	return at
}

// label is the label of the key of an attempt.
func (j *journey) label(at *Attempt) string {
	for _, s := range j.dir.Servers() {
		if s.Pool == nil {
			continue
		}
		for _, k := range s.Pool.Status() {
			if k.ID == at.keyID {
				return k.Label
			}
		}
	}
	return ""
}

func (j *journey) status(label string) pool.KeyStatus {
	s, _ := j.dir.Server("pool")
	for _, k := range s.Pool.Status() {
		if k.Label == label {
			return k
		}
	}
	j.t.Fatalf("no key %s", label)
	return pool.KeyStatus{}
}

func none(string) string { return "" }

// finish answers the exchange well, or as the status says, and ends it.
func (j *journey) finish(x *Exchange, status int) Plan {
	p := x.Answer(Head{Status: status, ContentType: "application/json"})
	if p.Observe {
		x.Write([]byte(`{"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}`), true)
	}
	x.End()
	return p
}

// idle fails if anything is still held.
func (j *journey) idle() {
	j.t.Helper()
	for _, s := range j.dir.Servers() {
		if s.Pool == nil {
			continue
		}
		for _, k := range s.Pool.Status() {
			if k.InFlight != 0 {
				j.t.Errorf("key %s has %d in flight", k.Label, k.InFlight)
			}
		}
	}
	if n := j.store.Stats().Leases; n != 0 || j.g.Live() != 0 || len(j.g.live.held) != 0 {
		j.t.Errorf("%d leases, %d exchanges, %d reservations are left", n, j.g.Live(), len(j.g.live.held))
	}
}

func TestAttemptsGoFromKeyToKeyAndOn(t *testing.T) {
	j := newJourney(t, 2, 3)
	x := j.admit("both")
	if got := x.Order(); !slices.Equal(got, []string{"pool", "behind"}) || x.Attempts() != 4 || x.Credential() != "" {
		t.Errorf("order %v, %d attempts, credential %q", got, x.Attempts(), x.Credential())
	}
	first := j.attempt(x, "pool", 1)
	if first.Path() != "/p/v1/chat/completions" || !strings.HasPrefix(first.Credential().Reveal(), "sk-pool-") {
		t.Errorf("path %s, credential %v", first.Path(), first.Credential())
	}
	// If it breaks off, the other key is next.
	if got := first.Order(); got[1] != "pool" || got[2] != "behind" {
		t.Errorf("order %v, want the pool again and then the other", got)
	}
	if retry, order := first.Answered(401, none, nil); !retry || order[1] != "pool" {
		t.Errorf("after a 401: retry %v, order %v", retry, order)
	}
	first.End(false)
	second := j.attempt(x, "pool", 2)
	if second.keyID == first.keyID || second.pause != 0 {
		t.Errorf("the second attempt has key %s after %v", j.label(second), second.pause)
	}
	if got := second.Order(); got[2] != "behind" {
		t.Errorf("order %v, want the other upstream: no key is left", got)
	}
	if retry, order := second.Answered(429, none, nil); !retry || order[2] != "behind" {
		t.Errorf("after a 429: retry %v, order %v", retry, order)
	}
	second.End(false)
	third := j.attempt(x, "behind", 3)
	if model, differs := third.Renamed(); third.Credential() != "sk-behind" || third.Path() != "/v1/chat/completions" || model != "other-name" || !differs {
		t.Errorf("credential %v, path %s, model %s", third.Credential(), third.Path(), model)
	}
	body, err := third.Rewrite([]byte(`{"model":"both","messages":[{"role":"user","content":"hi"}]}`))
	if err != nil || !strings.Contains(string(body), `"model":"other-name"`) {
		t.Errorf("body %s, %v", body, err)
	}
	if retry, _ := third.Answered(200, none, nil); retry {
		t.Error("a good answer is repeated")
	}
	if p := j.finish(x, 200); p.Instead != nil {
		t.Errorf("plan %+v", p)
	}
	if name, _, made := x.attempts.server(); name != "behind" || made != 3 {
		t.Errorf("served by %s after %d attempts", name, made)
	}
	if a, b := j.status("k0"), j.status("k1"); a.State != pool.Quarantined || b.State != pool.Cooling {
		t.Errorf("states %v, %v", a.State, b.State)
	}
	j.idle()
}

func TestRequestsAtFaultAreNotRepeated(t *testing.T) {
	for _, status := range []int{400, 404, 413, 422} {
		j := newJourney(t, 2, 3)
		x := j.admit("both")
		if retry, _ := j.attempt(x, "pool", 1).Answered(status, none, nil); retry {
			t.Errorf("a %d is repeated", status)
		}
		j.finish(x, status)
		if k := j.status("k0"); k.State != pool.Healthy {
			t.Errorf("after a %d the key is %v", status, k.State)
		}
		j.idle()
	}
}

func TestQuotaInA429(t *testing.T) {
	j := newJourney(t, 2, 3)
	x := j.admit("only")
	at := j.attempt(x, "pool", 1)
	if !at.WantsBody(429) || !at.WantsBody(403) || at.WantsBody(500) || at.WantsBody(200) {
		t.Error("the wrong bodies are asked for")
	}
	retry, _ := at.Answered(429, none, []byte(`{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}`))
	if k := j.status(j.label(at)); !retry || k.State != pool.Quarantined {
		t.Errorf("retry %v, key %v; want it put aside", retry, k.State)
	}
	at = j.attempt(x, "pool", 2)
	retry, _ = at.Answered(403, none, []byte(`{"error":{"message":"no","code":"content_policy_violation"}}`))
	if k := j.status(j.label(at)); retry || k.State != pool.Healthy {
		t.Errorf("retry %v, key %v; want that it is the request's fault", retry, k.State)
	}
	j.finish(x, 403)
	j.idle()
}

func TestFirewallsPage(t *testing.T) {
	j := newJourney(t, 2, 3)
	for range 3 {
		x := j.admit("only")
		at := j.attempt(x, "pool", 1)
		if retry, _ := at.Answered(403, none, []byte("\n<!DOCTYPE html><title>Attention Required!</title>")); retry {
			t.Error("what a firewall refused is sent again")
		}
		at.End(false)
		j.finish(x, 403)
	}
	for _, label := range []string{"k0", "k1"} {
		if k := j.status(label); k.State != pool.Healthy {
			t.Errorf("%s is %v: a client's request has put it aside", label, k.State)
		}
	}
	j.idle()
}

func TestSameErrorOnTwoKeysIsTheUpstreams(t *testing.T) {
	j := newJourney(t, 3, 3)
	for range 5 { // three strikes would make a key rest
		x := j.admit("only")
		for n := 1; ; n++ {
			at := j.attempt(x, "pool", n)
			retry, _ := at.Answered(500, none, nil)
			at.End(false)
			if !retry {
				break
			}
		}
		j.finish(x, 500)
	}
	for _, label := range []string{"k0", "k1", "k2"} {
		if k := j.status(label); k.State != pool.Healthy || k.Failures[pool.ServerError] > 0 {
			t.Errorf("%s is %v after %v", label, k.State, k.Failures)
		}
	}
	j.idle()
}

func TestSameKeyAgainAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJourney(t, 1, 3)
		x := j.admit("only")
		for n := 1; n <= 3; n++ {
			at := j.attempt(x, "pool", n)
			if pause := at.Pause(); n == 1 && pause > 0 || n > 1 && (pause <= 0 || pause > longPause) {
				t.Errorf("attempt %d after %v", n, pause)
			}
			if retry, _ := at.Answered(502, none, nil); retry != (n < 3) {
				t.Errorf("attempt %d of 3: retry %v", n, retry)
			}
			at.End(false)
		}
		j.finish(x, 502)
		j.idle()
	})
}

func TestCostlyFailuresAreRepeatedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJourney(t, 3, 3)
		x := j.admit("only")
		for n, want := range []bool{true, false} {
			at := j.attempt(x, "pool", n+1)
			time.Sleep(costly + time.Second)
			if retry, _ := at.Answered(500, none, nil); retry != want {
				t.Errorf("failure %d after a long time: retry %v, want %v", n+1, retry, want)
			}
			at.End(false)
		}
		j.finish(x, 500)
		j.idle()
	})
}

func TestAttemptsThatBreakOff(t *testing.T) {
	j := newJourney(t, 2, 2)
	x := j.admit("both")
	first := j.attempt(x, "pool", 1)
	second := j.attempt(x, "pool", 2) // Envoy goes on before it tells that the first has ended
	first.End(true)
	second.End(false)
	third := j.attempt(x, "behind", 3)
	if _, err := j.g.Attempt(t.Context(), x.ID(), "pool", 4); err == nil || err.Code != openai.CodeUpstreamError {
		t.Errorf("a fourth attempt, the third at the pool: %v, want that it ends", err)
	}
	third.End(true)
	x.Answer(Head{Status: 502, Local: true})
	x.End()
	if k := j.status(j.label(first)); k.Failures[pool.Disconnect] != 1 || k.SuccessRate != 0 {
		t.Errorf("the key of the attempt that broke off has %v", k.Failures)
	}
	if k := j.status(j.label(second)); k.Failures[pool.Connect] != 1 || len(k.Failures) != 1 || k.SuccessRate != 0 || k.LastFailure == nil {
		t.Errorf("the key of the attempt that never got there has %v, last %v", k.Failures, k.LastFailure)
	}
	j.idle()
}

// An attempt without an answer in time is told apart from one that broke off.
func TestAttemptsThatTakeTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJourney(t, 2, 2)
		x := j.admit("only")
		x.timeouts.FirstByte = time.Minute
		first := j.attempt(x, "pool", 1)
		time.Sleep(time.Minute)
		first.End(true)
		second := j.attempt(x, "pool", 2)
		time.Sleep(time.Second)
		second.End(true)
		x.Answer(Head{Status: 504, Local: true})
		x.End()
		for _, at := range []*Attempt{first, second} {
			if k := j.status(j.label(at)); k.Failures[pool.Timeout] != 1 || len(k.Failures) != 1 || k.SuccessRate != 0 {
				t.Errorf("the key of attempt %d has %v", at.number, k.Failures)
			}
		}
		j.idle()
	})
}

// Envoy can be refused before it has asked about the attempt: it counts all the same.
func TestAttemptsThatNobodySaw(t *testing.T) {
	j := newJourney(t, 1, 1)
	server, _ := j.dir.Server("pool")
	for range 2 {
		x := j.admit("only")
		x.Answer(Head{Status: 503, Local: true})
		x.End()
	}
	x := j.admit("both") // the first went to the pool
	at := j.attempt(x, "behind", 2)
	at.Answered(200, none, nil)
	at.End(false)
	j.finish(x, 200)
	if k := j.status("k0"); k.Failures[pool.Connect] != 3 || k.Requests != 3 || k.SuccessRate != 0 || !server.Down() {
		t.Errorf("down %v, %d attempts, failures %v", server.Down(), k.Requests, k.Failures)
	}
	behind, _ := j.dir.Server("behind")
	if behind.Down() {
		t.Error("the server that answered is down")
	}
	j.idle()
}

// What weir itself refuses says nothing of upstreams.
func TestRefusedAttemptsAreNotUnseen(t *testing.T) {
	j := newJourney(t, 1, 1)
	server, _ := j.dir.Server("pool")
	for range 3 {
		x := j.admit("only")
		server.Pool.Disable("k0") // between admission and attempt
		if _, err := j.g.Attempt(t.Context(), x.ID(), "pool", 1); err == nil {
			t.Fatal("an attempt without a key")
		}
		x.Answer(Head{Status: 503, Local: true})
		x.End()
		server.Pool.Enable("k0")
	}
	if k := j.status("k0"); k.Requests != 0 || server.Down() {
		t.Errorf("down %v, %d attempts, failures %v", server.Down(), k.Requests, k.Failures)
	}
	j.idle()
}

func TestClientLeaves(t *testing.T) {
	j := newJourney(t, 2, 3, config.Limit{Name: "slots", Per: []config.Scope{config.PerUpstreamKey}, Unit: config.Concurrency, Amount: 1})
	for _, late := range []bool{false, true} {
		x := j.admit("only")
		at := j.attempt(x, "pool", 1)
		if late {
			x.End()
			at.End(true)
		} else {
			at.End(true)
			x.End()
		}
		if k := j.status(j.label(at)); len(k.Failures) != 0 || k.Aborted != 1 || k.SuccessRate != 1 || k.State != pool.Healthy {
			t.Errorf("ended late %v: the key has %v", late, k.Failures)
		}
		if _, err := j.g.Attempt(t.Context(), x.ID(), "pool", 2); err == nil {
			t.Error("an attempt for a request that has ended")
		}
	}
	j.idle()
}

func TestNoMoreKeysThanAllowed(t *testing.T) {
	j := newJourney(t, 3, 3)
	s, _ := j.dir.Server("pool")
	s.Upstream.Pool.MaxKeys = 1
	x := j.admit("only")
	first := j.attempt(x, "pool", 1)
	if retry, _ := first.Answered(500, none, nil); !retry {
		t.Error("a server's error is not tried again with the same key")
	}
	first.End(false)
	second := j.attempt(x, "pool", 2)
	if second.keyID != first.keyID || second.pause == 0 {
		t.Errorf("the second attempt has key %s after %v, want the same after a pause", j.label(second), second.pause)
	}
	second.End(true)
	s.Pool.Disable(first.keyID)
	if _, err := j.g.Attempt(t.Context(), x.ID(), "pool", 3); err == nil || err.Code != openai.CodeNoUpstream {
		t.Errorf("a third attempt, whose key was taken away: %v; want that it ends, though others could be used", err)
	}
	x.Answer(Head{Status: 503, Local: true})
	x.End()
	j.idle()
}

func TestClientLeavesBetweenAttempts(t *testing.T) {
	j := newJourney(t, 2, 3)
	x := j.admit("only")
	at := j.attempt(x, "pool", 1)
	if retry, _ := at.Answered(503, none, nil); !retry {
		t.Error("no other key is tried")
	}
	at.End(false)
	x.End() // the key for the second attempt is kept already
	j.idle()
}

func TestLimitsOfUpstreamKeys(t *testing.T) {
	j := newJourney(t, 2, 3, config.Limit{Name: "slots", Per: []config.Scope{config.PerUpstreamKey}, Unit: config.Concurrency, Amount: 1})
	a, b := j.admit("only"), j.admit("only")
	first, second := j.attempt(a, "pool", 1), j.attempt(b, "pool", 1)
	if first.keyID == second.keyID {
		t.Error("two requests have the one slot of a key")
	}
	c := j.admit("only")
	if _, err := j.g.Attempt(t.Context(), c.ID(), "pool", 1); err == nil || err.Status != 429 || err.Detail == nil || err.Detail.Limit != "slots" {
		t.Errorf("a third request: %v, want 429 of the limit", err)
	}
	c.Answer(Head{Status: 429, Local: true})
	c.End()
	first.Answered(200, none, nil)
	j.finish(a, 200)
	d := j.admit("only")
	if at := j.attempt(d, "pool", 1); at.keyID != first.keyID {
		t.Error("the slot that came free was not taken")
	}
	second.Answered(200, none, nil)
	j.finish(b, 200)
	d.End()
	j.idle()
}

func TestAttemptOfNothing(t *testing.T) {
	j := newJourney(t, 1, 1)
	for _, name := range []string{"", "!", "zzzz", strings.Repeat("z", 100)} {
		if _, err := j.g.Attempt(t.Context(), name, "pool", 1); err == nil || err.Status != 503 {
			t.Errorf("exchange %q: %v", name, err)
		}
	}
	x := j.admit("only")
	if _, err := j.g.Attempt(t.Context(), x.ID(), "nowhere", 1); err == nil {
		t.Error("an attempt at an upstream that is not in the plan")
	}
	x.End()
	j.idle()
}
