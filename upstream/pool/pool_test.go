package pool

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/weir-gateway/weir/config"
)

func TestMain(m *testing.M) {
	for name, value := range map[string]string{"rapid.checks": "300", "rapid.steps": "60"} {
		if err := flag.Set(name, value); err != nil { // the command line comes after
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

// bench is a pool whose clock stands still until it is moved.
type bench struct {
	*Pool
	t       testing.TB
	now     time.Time
	changes []string
}

func newBench(t testing.TB, strategy Strategy, n int) *bench {
	b := &bench{t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	b.Pool = New(Options{Upstream: "up", Strategy: strategy, Now: func() time.Time { return b.now }, Changed: b.changed}, testKeys(n))
	return b
}

func testKeys(n int) []Key {
	var keys []Key
	for i := range n {
		keys = append(keys, Key{Label: string(rune('a' + i)), Secret: config.Secret(fmt.Sprintf("sk-canary-%012d", i))})
	}
	return keys
}

func (b *bench) changed(c Change) {
	text := fmt.Sprintf("%s %s→%s %s", c.Label, c.From, c.To, c.Why)
	if c.To == Cooling {
		text += " " + c.Until.Sub(b.now).String()
	}
	b.changes = append(b.changes, text)
}

func (b *bench) pick() *Lease {
	b.t.Helper()
	l, err := b.Pick(nil, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return l
}

// none answers why no key can be picked.
func (b *bench) none() NoKeyError {
	b.t.Helper()
	l, err := b.Pick(nil, nil)
	var none *NoKeyError
	if !errors.As(err, &none) {
		b.t.Fatalf("Pick = %v, %v; want a NoKeyError", l, err)
	}
	return *none
}

func (b *bench) attempt(o Outcome) { b.t.Helper(); b.pick().Done(o) }

// keyState is that of the first key: state, why and, of a cooling one, how long.
func (b *bench) keyState() string {
	s := b.Status()[0]
	text := s.State.String() + " " + string(s.Why)
	if s.State == Cooling {
		text += " " + s.Until.Sub(b.now).String()
	}
	return strings.TrimSpace(text)
}

// TestStates follows one key through outcomes. A step is an outcome of a request
// that begins and ends there, or a time that passes.
func TestStates(t *testing.T) {
	limited := func(told time.Duration) Outcome { return Outcome{Class: RateLimited, Status: 429, RetryAfter: told} }
	ok, failed, reset := Outcome{Class: OK}, Outcome{Class: ServerError, Status: 503}, Outcome{Class: Unreached}
	rejected, unpaid := Outcome{Class: Rejected, Status: 401}, Outcome{Class: Unpaid, Status: 402}
	fault := Outcome{Class: RequestFault, Status: 400}
	for name, c := range map[string]struct {
		steps []any
		want  string
	}{
		"new":                            {nil, "healthy"},
		"success":                        {[]any{ok}, "healthy"},
		"429 that tells":                 {[]any{limited(20 * time.Second)}, "cooling rate_limited 20s"},
		"429 that tells too much":        {[]any{limited(time.Hour)}, "cooling rate_limited 5m0s"},
		"429 that does not tell":         {[]any{limited(0)}, "cooling rate_limited 1s"},
		"429 again":                      {[]any{limited(0), time.Second, limited(0)}, "cooling rate_limited 2s"},
		"429 often":                      {[]any{limited(0), time.Minute, limited(0), time.Minute, limited(0), time.Minute, limited(0), time.Minute, limited(0), time.Minute, limited(0), time.Minute, limited(0), time.Minute, limited(0)}, "cooling rate_limited 1m0s"},
		"429 after a success":            {[]any{limited(0), time.Second, limited(0), 2 * time.Second, ok, limited(0)}, "cooling rate_limited 1s"},
		"429 that tells doubles none":    {[]any{limited(9 * time.Second), 9 * time.Second, limited(0)}, "cooling rate_limited 1s"},
		"trial succeeds":                 {[]any{limited(0), time.Second, ok}, "healthy trial"},
		"trial fails":                    {[]any{limited(0), time.Second, failed}, "cooling failing 10s"},
		"trial is no evidence":           {[]any{limited(0), time.Second, fault}, "cooling rate_limited 0s"},
		"trial is abandoned":             {[]any{limited(0), time.Second, Outcome{}}, "cooling rate_limited 0s"},
		"trial is rejected":              {[]any{limited(0), time.Second, rejected}, "quarantined rejected"},
		"rejected":                       {[]any{rejected}, "quarantined rejected"},
		"unpaid":                         {[]any{unpaid}, "quarantined unpaid"},
		"quarantine does not end":        {[]any{rejected, time.Hour}, "quarantined rejected"},
		"two strikes":                    {[]any{failed, reset}, "healthy"},
		"three strikes":                  {[]any{failed, 15 * time.Second, reset, 15 * time.Second, failed}, "cooling failing 5s"},
		"three strikes in longer":        {[]any{failed, 15 * time.Second, failed, 16 * time.Second, failed}, "healthy"},
		"the window slides":              {[]any{failed, 15 * time.Second, failed, 16 * time.Second, failed, 13 * time.Second, failed}, "cooling failing 5s"},
		"success between strikes":        {[]any{failed, failed, ok, failed, failed}, "healthy"},
		"strikes, then trials that fail": {[]any{failed, failed, failed, 5 * time.Second, reset, 10 * time.Second, failed}, "cooling failing 20s"},
		"trials fail for long":           {[]any{failed, failed, failed, time.Hour, failed, time.Hour, failed, time.Hour, failed, time.Hour, failed, time.Hour, failed, time.Hour, failed, time.Hour, failed}, "cooling failing 5m0s"},
		"strikes after a trial":          {[]any{failed, failed, failed, 5 * time.Second, ok, failed, failed, failed}, "cooling failing 5s"},
		"faults of requests":             {[]any{fault, fault, fault, fault}, "healthy"},
		"faults of the upstream":         {[]any{Outcome{Class: UpstreamFault}, Outcome{Class: UpstreamFault}, Outcome{Class: UpstreamFault}}, "healthy"},
		"clients that leave":             {[]any{Outcome{}, Outcome{}, Outcome{}}, "healthy"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, RoundRobin, 1)
			for _, step := range c.steps {
				switch step := step.(type) {
				case time.Duration:
					b.now = b.now.Add(step)
				case Outcome:
					b.attempt(step)
				}
			}
			got := b.keyState()
			if got != c.want {
				t.Errorf("state = %q, want %q; changes: %q", got, c.want, b.changes)
			}
			if n := b.Status()[0].InFlight; n != 0 {
				t.Errorf("%d in flight, want 0", n)
			}
		})
	}
}

func TestRetryAfterCoolsToTheDot(t *testing.T) {
	b := newBench(t, RoundRobin, 1)
	b.attempt(Outcome{Class: RateLimited, RetryAfter: 10 * time.Second})
	b.now = b.now.Add(10*time.Second - 1)
	want := NoKeyError{Upstream: "up", Soonest: 1, Cooling: 1}
	if diff := cmp.Diff(want, b.none()); diff != "" {
		t.Errorf("just before (-want +got):\n%s", diff)
	}
	b.now = b.now.Add(1)
	l := b.pick()
	if !l.Trial() {
		t.Error("the first request after cooling is no trial")
	}
	if diff := cmp.Diff(NoKeyError{Upstream: "up", Soonest: trialWait, Cooling: 1}, b.none()); diff != "" {
		t.Errorf("during the trial (-want +got):\n%s", diff)
	}
	if n := b.Usable(); n != 0 {
		t.Errorf("Usable() during the trial = %d, want 0", n)
	}
	l.Done(Outcome{Class: OK})
	first, second := b.pick(), b.pick()
	if first.Trial() || second.Trial() || b.Usable() != 1 {
		t.Error("the key is still on trial after a success")
	}
	want2 := []string{"a healthy→cooling rate_limited 10s", "a cooling→healthy trial"}
	if diff := cmp.Diff(want2, b.changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

// TestOlderRequests: what began before the state changed speaks of before.
func TestOlderRequests(t *testing.T) {
	limited := Outcome{Class: RateLimited, RetryAfter: 10 * time.Second}
	for name, c := range map[string]struct {
		first Outcome
		then  func(*bench)
		older Outcome
		want  string
	}{
		"success does not end cooling":             {limited, nil, Outcome{Class: OK}, "cooling rate_limited 10s"},
		"success does not end quarantine":          {Outcome{Class: Rejected}, nil, Outcome{Class: OK}, "quarantined rejected"},
		"429 does not double":                      {Outcome{Class: RateLimited}, nil, Outcome{Class: RateLimited}, "cooling rate_limited 1s"},
		"429 that tells less does not shorten":     {limited, nil, Outcome{Class: RateLimited, RetryAfter: time.Second}, "cooling rate_limited 10s"},
		"429 that tells more lengthens":            {limited, nil, Outcome{Class: RateLimited, RetryAfter: time.Minute}, "cooling rate_limited 1m0s"},
		"strikes do not count":                     {limited, nil, Outcome{Class: ServerError}, "cooling rate_limited 10s"},
		"cooling becomes quarantine":               {limited, nil, Outcome{Class: Rejected}, "quarantined rejected"},
		"quarantine does not become cooling":       {Outcome{Class: Rejected}, nil, limited, "quarantined rejected"},
		"rejection does not undo a reset":          {Outcome{Class: Rejected}, func(b *bench) { b.Reset() }, Outcome{Class: Rejected}, "healthy operator"},
		"429 does not undo a reset":                {limited, func(b *bench) { b.Reset() }, limited, "healthy operator"},
		"success does not end cooling after trial": {limited, func(b *bench) { b.now = b.now.Add(time.Minute); b.pick() }, Outcome{Class: OK}, "cooling rate_limited -50s"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, RoundRobin, 1)
			older := b.pick()
			b.attempt(c.first)
			if c.then != nil {
				c.then(b)
			}
			older.Done(c.older)
			if got := b.keyState(); got != c.want {
				t.Errorf("state = %q, want %q", got, c.want)
			}
		})
	}
}

// TestTrialOfBefore: a trial whose key was reset and cooled again meanwhile keeps
// nobody else from the next one.
func TestTrialOfBefore(t *testing.T) {
	b := newBench(t, RoundRobin, 1)
	b.attempt(Outcome{Class: RateLimited})
	b.now = b.now.Add(time.Second)
	older := b.pick()
	b.Reset()
	b.attempt(Outcome{Class: RateLimited})
	b.now = b.now.Add(time.Second)
	newer := b.pick()
	if !older.Trial() || !newer.Trial() || b.Usable() != 0 {
		t.Errorf("trials %v, %v with %d usable; want two trials and no third", older.Trial(), newer.Trial(), b.Usable())
	}
	older.Done(Outcome{Class: OK})
	if n := b.Usable(); n != 0 {
		t.Errorf("%d usable during the newer trial, want 0", n)
	}
	newer.Done(Outcome{Class: OK})
	if n := b.Usable(); n != 1 {
		t.Errorf("%d usable after it, want 1", n)
	}
}

func TestQuarantineIsToldOnce(t *testing.T) {
	b := newBench(t, RoundRobin, 1)
	older := []*Lease{b.pick(), b.pick(), b.pick()}
	b.attempt(Outcome{Class: Rejected})
	for i, c := range []Class{Rejected, Unpaid, RateLimited} {
		older[i].Done(Outcome{Class: c, RetryAfter: time.Minute})
	}
	if diff := cmp.Diff([]string{"a healthy→quarantined rejected"}, b.changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func TestDoneOnce(t *testing.T) {
	b := newBench(t, RoundRobin, 1)
	l := b.pick()
	l.Done(Outcome{Class: OK, Tokens: 5})
	l.Done(Outcome{Class: Rejected, Tokens: 7})
	l.Learn(Outcome{Class: Rejected})
	l.AddTokens(2) // these may come late
	s := b.Status()[0]
	if s.State != Healthy || s.InFlight != 0 || s.Requests != 1 || s.Successes != 1 || s.Tokens != 7 || s.Failures != nil {
		t.Errorf("status = %+v, want one success, nothing in flight, 7 tokens", s)
	}
}

func TestLearnBeforeDone(t *testing.T) {
	for name, c := range map[string]struct {
		learn, done     Outcome
		during, after   string
		successes, fail int64
		class           Class
	}{
		"good to the end":    {Outcome{Class: OK}, Outcome{Class: OK}, "healthy trial", "healthy trial", 1, 0, OK},
		"cut in the middle":  {Outcome{Class: OK}, Outcome{Class: Unreached}, "healthy trial", "healthy trial", 0, 1, Unreached},
		"left in the middle": {Outcome{Class: OK}, Outcome{Class: Abandoned}, "healthy trial", "healthy trial", 0, 1, Abandoned},
		"a failure stands":   {Outcome{Class: RateLimited}, Outcome{Class: OK}, "cooling rate_limited 1s", "cooling rate_limited 1s", 0, 2, RateLimited},
		"nothing at first":   {Outcome{}, Outcome{Class: Rejected}, "cooling rate_limited 0s", "quarantined rejected", 0, 1, Rejected},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, RoundRobin, 1)
			b.attempt(Outcome{Class: RateLimited, RetryAfter: time.Second})
			b.now = b.now.Add(time.Second)
			l := b.pick()
			l.Learn(c.learn)
			if got := b.keyState(); got != c.during || b.Status()[0].InFlight != 1 {
				t.Errorf("after Learn: %q with %d in flight, want %q with 1", got, b.Status()[0].InFlight, c.during)
			}
			l.Done(c.done)
			s := b.Status()[0]
			if got := b.keyState(); got != c.after || s.InFlight != 0 {
				t.Errorf("after Done: %q with %d in flight, want %q with 0", got, s.InFlight, c.after)
			}
			if s.Successes != c.successes || s.Failures[c.class] != c.fail {
				t.Errorf("successes = %d, failures = %v; want %d, and %d of %s", s.Successes, s.Failures, c.successes, c.fail, c.class)
			}
		})
	}
}

func TestExcuse(t *testing.T) {
	failed := Outcome{Class: ServerError, Status: 503}
	for name, c := range map[string]struct {
		before func(*bench) // what comes before the attempt that is excused
		after  func(*bench) // and between it and Excuse
		want   string
	}{
		"a strike":                {func(b *bench) { b.attempt(failed) }, nil, "healthy"},
		"the strike that cools":   {func(b *bench) { b.attempt(failed); b.attempt(failed) }, nil, "healthy excused"},
		"of a trial":              {func(b *bench) { b.attempt(Outcome{Class: RateLimited}); b.now = b.now.Add(time.Second) }, nil, "cooling excused 0s"},
		"not what came after":     {func(b *bench) { b.attempt(failed); b.attempt(failed) }, func(b *bench) { b.Reset(); b.attempt(Outcome{Class: Rejected}) }, "quarantined rejected"},
		"wiped away by a success": {func(*bench) {}, func(b *bench) { b.attempt(Outcome{Class: OK}) }, "healthy"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, RoundRobin, 1)
			c.before(b)
			l := b.pick()
			l.Done(failed)
			if c.after != nil {
				c.after(b)
			}
			l.Excuse()
			l.Excuse()
			if got := b.keyState(); got != c.want {
				t.Errorf("state = %q, want %q", got, c.want)
			}
			if n := b.Status()[0].Failures[UpstreamFault]; n != 1 {
				t.Errorf("%d failures of the upstream, want 1", n)
			}
		})
	}
	b := newBench(t, RoundRobin, 1)
	for range 10 {
		l := b.pick()
		l.Done(failed)
		l.Excuse()
	}
	if got := b.keyState(); got != "healthy" {
		t.Errorf("after ten strikes, each excused: %q, want healthy", got)
	}
	b.attempt(Outcome{Class: RateLimited}) // 1 s
	b.now = b.now.Add(time.Second)
	l := b.pick()
	l.Done(failed)
	l.Excuse()
	b.attempt(failed)
	if got := b.keyState(); got != "cooling failing 10s" {
		t.Errorf("a trial fails after an excused one: %q, want the first doubling", got)
	}
	b.Reset()
	l = b.pick()
	l.Done(Outcome{Class: OK})
	l.Excuse()
	if s := b.Status()[0]; s.Successes != 1 {
		t.Errorf("excusing a success: %d successes, want it to stay 1", s.Successes)
	}
}

func TestSetKeepsWhatStays(t *testing.T) {
	b := newBench(t, RoundRobin, 4) // a cools, b is in quarantine, c is disabled, d goes
	b.pick().Done(Outcome{Class: RateLimited, RetryAfter: time.Minute, Tokens: 3})
	b.pick().Done(Outcome{Class: Rejected})
	inFlight, leaving := b.pick(), b.pick()
	b.Disable("c")
	b.changes = nil

	keys := testKeys(4)
	keys[2].Label, keys[2].Weight = "c2", 7
	b.Set([]Key{keys[2], keys[1], keys[0], keys[0], {Secret: "sk-new"}})
	type row struct {
		Label    string
		State    State
		Why      Why
		InFlight int
		Requests int64
		Weight   int
	}
	var got []row
	for _, s := range b.Status() {
		got = append(got, row{s.Label, s.State, s.Why, s.InFlight, s.Requests, s.Weight})
	}
	want := []row{
		{"c2", Disabled, WhyOperator, 1, 1, 7},
		{"b", Healthy, WhyReload, 0, 1, 1},
		{"a", Cooling, WhyRateLimited, 0, 1, 1},
		{"key-5", Healthy, "", 0, 0, 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"b quarantined→healthy reload"}, b.changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	inFlight.Done(Outcome{Class: OK})
	leaving.Done(Outcome{Class: Rejected})
	if s := b.Status()[0]; s.InFlight != 0 || s.Successes != 1 {
		t.Errorf("the attempt that was in flight: %+v, want a success", s)
	}
	if k := inFlight.Key(); k.Label != "c" {
		t.Errorf("the lease's key has the label %q, want that of its beginning", k.Label)
	}
	if len(b.changes) != 1 {
		t.Errorf("a key that is gone has told a change: %q", b.changes)
	}
	keys[3].ID = KeyID(keys[3].Secret)
	keys[3].Secret = "sk-another"
	b.Set(keys[3:])
	b.Set(testKeys(4)[3:])
	if s := b.Status()[0]; s.Requests != 0 || s.State != Healthy || b.Len() != 1 {
		t.Errorf("a key of the same ID and another secret: %+v, want a new one", s)
	}
}

func TestOperators(t *testing.T) {
	b := newBench(t, RoundRobin, 3)
	b.attempt(Outcome{Class: Rejected})
	b.attempt(Outcome{Class: ServerError})
	if b.Disable("nobody") || b.Enable("nobody") || b.Reset("nobody") != 0 {
		t.Error("a key that is not there was found")
	}
	if !b.Disable("a") || !b.Disable(KeyID("sk-canary-000000000002")) || !b.Disable("c") {
		t.Error("a key that is there was not found")
	}
	for range 3 {
		if l := b.pick(); l.Key().Label != "b" {
			t.Errorf("picked %s, which is disabled", l.Key().Label)
		}
	}
	if diff := cmp.Diff(NoKeyError{Upstream: "up", Disabled: 2, Tried: 1}, func() NoKeyError {
		_, err := b.Pick([]string{KeyID("sk-canary-000000000001")}, nil)
		var none *NoKeyError
		errors.As(err, &none)
		return *none
	}()); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
	b.Enable("a")
	if n := b.Reset(); n != 2 {
		t.Errorf("Reset() = %d, want 2: a quarantine and a strike", n)
	}
	b.Enable("c")
	if n := b.Reset("a", "b", "c"); n != 0 || b.Usable() != 3 {
		t.Errorf("Reset again = %d with %d usable, want 0 with 3", n, b.Usable())
	}
	want := []string{
		"a healthy→quarantined rejected", "a quarantined→disabled operator", "c healthy→disabled operator",
		"a disabled→quarantined operator", "a quarantined→healthy operator", "c disabled→healthy operator",
	}
	if diff := cmp.Diff(want, b.changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func TestNoKeyErrorText(t *testing.T) {
	b := newBench(t, RoundRobin, 4)
	b.attempt(Outcome{Class: RateLimited, RetryAfter: 30 * time.Second})
	b.attempt(Outcome{Class: RateLimited, RetryAfter: 3 * time.Second})
	b.attempt(Outcome{Class: Unpaid})
	_, err := b.Pick(nil, func(k *Key) bool { return k.Label == "d" })
	const want = `upstream "up": no key can be used: 2 cooling, 1 quarantined, 1 at their limits; the next in 3s`
	if err == nil || err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	if _, err := New(Options{Upstream: "up"}, nil).Pick(nil, nil); err == nil || err.Error() != `upstream "up": no key can be used` {
		t.Errorf("error of an empty pool: %q", err)
	}
}

func TestStatus(t *testing.T) {
	b := newBench(t, RoundRobin, 1)
	b.attempt(Outcome{Class: OK, Status: 200, Tokens: 100})
	b.attempt(Outcome{Class: OK, Status: 200, Tokens: 11})
	b.attempt(Outcome{Class: RequestFault, Status: 400})
	b.attempt(Outcome{Class: ServerError, Status: 502})
	at := b.now
	b.now = b.now.Add(time.Second)
	b.attempt(Outcome{})
	b.pick()
	got := b.Status()
	want := []KeyStatus{{
		ID: KeyID("sk-canary-000000000000"), Label: "a", Last4: "0000", Weight: 1, State: Healthy,
		InFlight: 1, Requests: 6, Successes: 2, SuccessRate: 2.0 / 3, Tokens: 111,
		Failures:    map[Class]int64{RequestFault: 1, ServerError: 1, Abandoned: 1},
		LastFailure: &Failure{ServerError, 502, at},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if s := string(text); !strings.Contains(s, `"server_error":1`) || !strings.Contains(s, `"state":"healthy"`) || strings.Contains(s, "canary") {
		t.Errorf("JSON is %s, want names of classes and states, and no secret", s)
	}
}

// TestNothingShowsASecret prints everything that the package gives out.
func TestNothingShowsASecret(t *testing.T) {
	b := newBench(t, RoundRobin, 1)
	l := b.pick()
	l.Done(Outcome{Class: Rejected, Status: 401})
	_, err := b.Pick(nil, nil)
	all := fmt.Sprintf("%v %+v %#v %v %+v %v %q", l.Key(), l.Key(), l.Key(), err, b.Status(), b.changes, KeyID("sk-canary-0"))
	if strings.Contains(all, "canary") {
		t.Errorf("a secret shows: %s", all)
	}
	if !strings.HasPrefix(KeyID("x"), "uk_") || len(KeyID("x")) != 13 || KeyID("x") == KeyID("y") {
		t.Errorf("KeyID = %s and %s, want uk_ and ten digits, by the secret", KeyID("x"), KeyID("y"))
	}
}

// TestChangesAreToldInOrder has the callback call the pool, while others change it.
func TestChangesAreToldInOrder(t *testing.T) {
	var p *Pool
	var mu sync.Mutex
	last := map[string]State{}
	p = New(Options{Changed: func(c Change) {
		mu.Lock()
		defer mu.Unlock()
		if last[c.KeyID] != c.From {
			t.Errorf("key %s changes from %s, which was %s", c.Label, c.From, last[c.KeyID])
		}
		last[c.KeyID] = c.To
		p.Usable() // must not block
	}}, testKeys(3))
	var users sync.WaitGroup
	for n := range 8 {
		users.Go(func() {
			for i := range 500 {
				label := string(rune('a' + (n+i)%3))
				if i%2 == 0 {
					p.Disable(label)
				} else {
					p.Enable(label)
				}
			}
		})
	}
	users.Wait()
	for _, s := range p.Status() {
		if last[s.ID] != s.State {
			t.Errorf("key %s is %s, and %s was told last", s.Label, s.State, last[s.ID])
		}
	}
}
