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
		{"key-" + KeyID("sk-new")[3:9], Healthy, "", 0, 0, 1},
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
		InFlight: 1, Requests: 6, Successes: 2, SuccessRate: 2.0 / 4, Aborted: 1, Tokens: 111,
		Failures:    map[Class]int64{RequestFault: 1, ServerError: 1},
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
