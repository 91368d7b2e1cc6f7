package memstore

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-gateway/weir/ratelimit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hand is a clock that is moved by hand.
type hand struct{ now time.Time }

func (h *hand) read() time.Time { return h.now }

func newHand() *hand { return &hand{time.Date(2026, time.March, 1, 10, 7, 3, 0, time.UTC)} }

func mustLimit(tb testing.TB, unit ratelimit.Unit, limit int64, window time.Duration) *ratelimit.Limit {
	tb.Helper()
	l, err := ratelimit.NewLimit("l", unit, limit, window)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// admit charges one of each scope and answers what Admit did.
func admit(t *testing.T, s *Store, seq int, l *ratelimit.Limit, scopes ...string) (ratelimit.Decision, error) {
	t.Helper()
	var charges []ratelimit.Charge
	for _, scope := range scopes {
		charges = append(charges, ratelimit.Charge{Limit: l, Scope: scope, Cost: 1})
	}
	return s.Admit(t.Context(), ratelimit.ID{Seq: uint64(seq)}, charges, ratelimit.AdmitOptions{})
}

func TestFullOfScopes(t *testing.T) {
	clock := newHand()
	s := New(Options{Clock: clock.read, MaxScopes: 3})
	l := mustLimit(t, ratelimit.Requests, 5, time.Second)
	for i, scope := range []string{"a", "b"} {
		if _, err := admit(t, s, i, l, scope); err != nil {
			t.Fatal(err)
		}
		if err := s.Settle(t.Context(), ratelimit.ID{Seq: uint64(i)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	// Two more would be one too many, and neither is made.
	d, err := admit(t, s, 10, l, "a", "c", "d")
	if !errors.Is(err, ratelimit.ErrFull) || d.Admitted {
		t.Errorf("Admit over the bound = %+v, error %v, want %v", d, err, ratelimit.ErrFull)
	}
	if got := s.Stats(); got.Scopes != 2 || got.Receipts != 0 {
		t.Errorf("after it the store holds %+v, want 2 scopes", got)
	}
	if _, err := admit(t, s, 11, l, "a", "c"); err != nil {
		t.Errorf("Admit at the bound = error %v", err)
	}
	// b has left its window; a and c have too, but are pinned by an open exchange.
	clock.now = clock.now.Add(2 * time.Second)
	if _, err := admit(t, s, 12, l, "d"); err != nil {
		t.Errorf("Admit in place of an idle scope = error %v", err)
	}
	if _, err := admit(t, s, 13, l, "e"); !errors.Is(err, ratelimit.ErrFull) {
		t.Errorf("Admit over the bound = error %v, want %v", err, ratelimit.ErrFull)
	}
	if err := s.Settle(t.Context(), ratelimit.ID{Seq: 11}, []int64{4, 1}); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Peek(t.Context(), []ratelimit.Charge{{Limit: l, Scope: "a"}}); err != nil || got[0].Used != 3 {
		t.Errorf("state after a late overage of 3 = %+v, error %v", got, err)
	}
}

func TestFullOfExchanges(t *testing.T) {
	clock := newHand()
	s := New(Options{Clock: clock.read, MaxReceipts: shards})
	l := mustLimit(t, ratelimit.Requests, 5000, time.Second)
	for i := range shards {
		if _, err := admit(t, s, i, l, "a"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := admit(t, s, shards, l, "a"); !errors.Is(err, ratelimit.ErrFull) {
		t.Errorf("Admit over the bound = error %v, want %v", err, ratelimit.ErrFull)
	}
	clock.now = clock.now.Add(ratelimit.ReceiptTTL)
	if _, err := admit(t, s, shards, l, "a"); err != nil {
		t.Errorf("Admit in place of a forgotten exchange = error %v", err)
	}
	if got := s.Stats(); got.Receipts != 1 {
		t.Errorf("the store holds %+v, want 1 receipt", got)
	}
}

// TestIdleScopesLeave: scopes that come once do not pile up, even if nobody
// calls Stats.
func TestIdleScopesLeave(t *testing.T) {
	clock := newHand()
	s := New(Options{Clock: clock.read})
	l := mustLimit(t, ratelimit.Requests, 5, time.Second)
	for i := range 100_000 {
		clock.now = clock.now.Add(20 * time.Millisecond)
		if _, err := admit(t, s, i, l, fmt.Sprintf("key:%d", i)); err != nil {
			t.Fatal(err)
		}
		if err := s.Settle(t.Context(), ratelimit.ID{Seq: uint64(i)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	// 3000 come in a minute, the time that they linger.
	if n := s.accounts.Load(); n > 6000 {
		t.Errorf("%d scopes are kept, want 6000 at most", n)
	}
	clock.now = clock.now.Add(time.Hour)
	if got := s.Stats(); got != (Stats{}) || s.accounts.Load() != 0 {
		t.Errorf("an idle store holds %+v and counts %d, want nothing", got, s.accounts.Load())
	}
}

// TestSiblings drops the limits of one scope in every order.
func TestSiblings(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		var st stripe
		var accounts []*account
		for i := range order {
			l := mustLimit(t, ratelimit.Requests, 5, time.Duration(i+1)*time.Second)
			accounts = append(accounts, st.open(&ratelimit.Charge{Limit: l, Scope: "a"}))
		}
		for n, i := range order {
			st.drop(accounts[i])
			for _, j := range order[:n+1] {
				if st.byScope["a"].find(accounts[j].limit) != nil {
					t.Errorf("order %v: limit %d is found after it was dropped", order, j)
				}
			}
			for _, j := range order[n+1:] {
				if st.byScope["a"].find(accounts[j].limit) != accounts[j] {
					t.Errorf("order %v: limit %d is lost with %d", order, j, i)
				}
			}
		}
	}
}

func TestTimeline(t *testing.T) {
	clock := newHand()
	tl := newTimeline(clock.read)
	first := tl.now()
	for _, step := range []struct{ move, want time.Duration }{
		{time.Second, time.Second},
		{-time.Hour, time.Second}, // goes on from where it was
		{time.Second, 2 * time.Second},
		{-2 * time.Millisecond, 2 * time.Second},
		{10 * time.Millisecond, 2010 * time.Millisecond},
		{time.Minute, 62010 * time.Millisecond},
	} {
		clock.now = clock.now.Add(step.move)
		if got := tl.now() - first; got != step.want {
			t.Fatalf("after a move by %s store time is %s, want %s", step.move, got, step.want)
		}
	}
	if got, want := tl.at(clock.now.Add(time.Second)), tl.now()+time.Second; got != want {
		t.Errorf("a second from now is %s, want %s", got, want)
	}
}

// TestTimelineOvertaken: goroutines that overtake each other between reading
// the clock and telling the time are no clock that was set back.
func TestTimelineOvertaken(t *testing.T) {
	tl := newTimeline(time.Now)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20_000 {
				tl.now()
			}
		})
	}
	wg.Wait()
	if skew := tl.skew.Load(); skew != 0 {
		t.Errorf("skew of %d ns, want none", skew)
	}
}

// TestEverythingAtOnce is for the race detector: every method on few scopes.
func TestEverythingAtOnce(t *testing.T) {
	s := New(Options{MaxScopes: 12})
	l := mustLimit(t, ratelimit.Concurrency, 1000, 0)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 500 {
				seq := g*1000 + i
				id := ratelimit.ID{Seq: uint64(seq)}
				_, err := admit(t, s, seq, l, fmt.Sprint("a", i%7), fmt.Sprint("b", g%5))
				if err != nil && !errors.Is(err, ratelimit.ErrFull) {
					t.Error(err)
				}
				_, _ = s.Renew(t.Context(), []ratelimit.ID{id, {Seq: uint64(i)}})
				_, _ = s.Peek(t.Context(), []ratelimit.Charge{{Limit: l, Scope: "a1"}, {Limit: l, Scope: "b1"}})
				if i%50 == 0 {
					s.Stats()
				}
				if err := s.Settle(t.Context(), id, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := s.Stats(); got.Leases != 0 || got.Receipts != 0 {
		t.Errorf("the store holds %+v, want no leases or receipts", got)
	}
}
