package pool

import (
	stdcmp "cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// memShare is a share in memory. It keeps what is worse as a Share must.
type memShare struct {
	mu      sync.Mutex
	born    int64 // the version that the next life begins with
	version int64
	entries map[string]Entry
	changed map[string]int64 // the version of each
	ends    map[string]time.Time
	err     error // of each call
	deaf    error // of Publish
	calls   []string
}

func newMemShare() *memShare {
	m := &memShare{born: 1 << 40}
	m.wipe()
	return m
}

// wipe has the share lose everything.
func (m *memShare) wipe() {
	m.born -= 1 << 20
	m.version = 0
	m.entries, m.changed, m.ends = map[string]Entry{}, map[string]int64{}, map[string]time.Time{}
}

func (m *memShare) Publish(_ context.Context, _ string, e Entry) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, fmt.Sprintf("publish %s %s %v", e.KeyID[:3], e.State, e.Disabled))
	if err := stdcmp.Or(m.err, m.deaf); err != nil {
		return 0, err
	}
	old := m.entries[e.KeyID]
	kept := e.Parts&PartState != 0 && old.Version > e.Version && old.State > e.State
	if kept && e.Parts == PartState {
		return 0, nil
	}
	m.version = max(m.version, m.born) + 1
	m.changed[e.KeyID] = m.version
	next := e
	next.Version = m.version
	if kept || e.Parts&PartState == 0 {
		next = old
		next.KeyID = e.KeyID
	} else {
		m.ends[e.KeyID] = time.Now().Add(e.Remaining)
	}
	next.Disabled = old.Disabled
	if e.Parts&PartHand != 0 {
		next.Disabled = e.Disabled
	}
	m.entries[e.KeyID] = next
	if kept {
		return 0, nil
	}
	return m.version, nil
}

func (m *memShare) Poll(_ context.Context, _ string, since int64) (list []Entry, version int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, 0, m.err
	}
	if m.version < since {
		since = 0
	}
	for _, id := range slices.Sorted(maps.Keys(m.entries)) {
		if e := m.entries[id]; m.changed[id] > since {
			e.Remaining = max(0, time.Until(m.ends[id]))
			list = append(list, e)
		}
	}
	return list, m.version, nil
}

func (m *memShare) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// replica is a pool that runs in a synctest bubble.
type replica struct {
	*Pool
	mu      sync.Mutex
	changes []string
	told    []error
}

func startReplica(ctx context.Context, t *testing.T, share Share, n int, probe func(context.Context, Key) Outcome) *replica {
	t.Helper()
	r := &replica{}
	r.Pool = New(Options{
		Upstream: "up", Share: share,
		Changed: func(c Change) {
			r.mu.Lock()
			defer r.mu.Unlock()
			text := fmt.Sprintf("%s %s→%s", c.Label, c.From, c.To)
			if c.Remote {
				text += " remote"
			}
			r.changes = append(r.changes, text)
		},
		ShareFailed: func(err error) { r.mu.Lock(); defer r.mu.Unlock(); r.told = append(r.told, err) },
	}, testKeys(n))
	go func() {
		if err := r.Run(ctx, probe); err != nil {
			t.Error(err)
		}
	}()
	synctest.Wait()
	return r
}

// heard answers the changes and the failures that were told.
func (r *replica) heard() ([]string, []error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.changes), slices.Clone(r.told)
}

// states is the state of each key, such as "healthy cooling".
func (p *Pool) states() string {
	var list []string
	for _, s := range p.Status() {
		list = append(list, s.State.String())
	}
	return strings.Join(list, " ")
}

func (r *replica) attempt(t *testing.T, o Outcome) {
	t.Helper()
	l, err := r.Pick(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.Done(o)
}

// want waits for so long and compares the states.
func (r *replica) want(t *testing.T, after time.Duration, states string) {
	t.Helper()
	time.Sleep(after)
	synctest.Wait()
	if got := r.states(); got != states {
		t.Fatalf("states = %q, want %q", got, states)
	}
}

func inBubble(t *testing.T, f func(ctx context.Context, t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		f(ctx, t)
		stop()
		synctest.Wait()
	})
}

func TestReplicasShareStates(t *testing.T) {
	inBubble(t, func(ctx context.Context, t *testing.T) {
		share := newMemShare()
		a, b := startReplica(ctx, t, share, 2, nil), startReplica(ctx, t, share, 2, nil)
		a.attempt(t, Outcome{Class: RateLimited, RetryAfter: 20 * time.Second})
		a.want(t, 0, "cooling healthy")
		b.want(t, pollEvery, "cooling healthy")
		if until := time.Until(b.Status()[0].Until); until <= 18*time.Second || until > 20*time.Second {
			t.Errorf("the other replica has it cool for %s, want about 19.5 s", until)
		}
		time.Sleep(20 * time.Second)
		l, err := b.Pick([]string{b.Status()[1].ID}, nil)
		if err != nil || !l.Trial() {
			t.Fatalf("Pick after cooling: %v, want a trial", err)
		}
		l.Done(Outcome{Class: OK})
		a.want(t, 2*pollEvery, "healthy healthy")
		a.Disable("a")
		b.attempt(t, Outcome{Class: RateLimited, RetryAfter: time.Second})
		b.attempt(t, Outcome{Class: Rejected})
		a.want(t, 2*pollEvery, "disabled cooling")
		b.want(t, 0, "disabled cooling")
		b.Enable("a")
		b.Reset()
		a.want(t, 2*pollEvery, "healthy healthy")
		b.want(t, 0, "healthy healthy")
		changes, failures := a.heard()
		if len(failures) != 0 {
			t.Errorf("failures were told: %v", failures)
		}
		want := []string{
			"a healthy→cooling", "a cooling→healthy remote", "a healthy→disabled",
		}
		if diff := cmp.Diff(want, changes[:len(want)]); diff != "" {
			t.Errorf("changes (-want +got):\n%s", diff)
		}
		late := startReplica(ctx, t, share, 2, nil)
		late.want(t, 0, "healthy healthy")
		a.Disable("b")
		synctest.Wait()
		startReplica(ctx, t, share, 2, nil).want(t, 0, "healthy disabled")
	})
}

// TestWorseNewsWins: one replica heals what another has just found out to be bad.
func TestWorseNewsWins(t *testing.T) {
	inBubble(t, func(ctx context.Context, t *testing.T) {
		share := newMemShare()
		a, b := startReplica(ctx, t, share, 1, nil), startReplica(ctx, t, share, 1, nil)
		l, err := b.Pick(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		a.attempt(t, Outcome{Class: Rejected})
		synctest.Wait()
		l.Done(Outcome{Class: RateLimited}) // before b has polled
		b.want(t, 0, "cooling")
		b.want(t, pollEvery, "quarantined")
		a.want(t, pollEvery, "quarantined")
		a.Reset() // having seen it
		b.want(t, 2*pollEvery, "healthy")
	})
}

// TestUnsharedMeetsNews: what one replica could not publish yet meets what another
// has published meanwhile.
func TestUnsharedMeetsNews(t *testing.T) {
	for name, c := range map[string]struct {
		unshared, news func(*replica, *Lease)
		want           string // of both
	}{
		"worse news wins": {
			func(_ *replica, l *Lease) { l.Done(Outcome{Class: RateLimited, RetryAfter: time.Minute}) },
			func(_ *replica, l *Lease) { l.Done(Outcome{Class: Rejected}) },
			"quarantined",
		},
		"better news does not": {
			func(_ *replica, l *Lease) { l.Done(Outcome{Class: Rejected}) },
			func(_ *replica, l *Lease) { l.Done(Outcome{Class: RateLimited, RetryAfter: time.Minute}) },
			"quarantined",
		},
		"a hand beside a state": {
			func(r *replica, _ *Lease) { r.Disable("a") },
			func(_ *replica, l *Lease) { l.Done(Outcome{Class: RateLimited, RetryAfter: time.Minute}) },
			"disabled",
		},
		"a state beside a hand": {
			func(_ *replica, l *Lease) { l.Done(Outcome{Class: Rejected}) },
			func(r *replica, _ *Lease) { r.Disable("a"); synctest.Wait(); r.Enable("a") },
			"quarantined",
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(ctx context.Context, t *testing.T) {
				share := newMemShare()
				a, b := startReplica(ctx, t, share, 1, nil), startReplica(ctx, t, share, 1, nil)
				la, errA := a.Pick(nil, nil)
				lb, errB := b.Pick(nil, nil)
				if err := errors.Join(errA, errB); err != nil {
					t.Fatal(err)
				}
				share.set(func() { share.deaf = errors.New("deaf") })
				c.unshared(b, lb)
				synctest.Wait()
				share.set(func() { share.deaf = nil })
				c.news(a, la)
				a.want(t, 4*pollEvery, c.want)
				b.want(t, 0, c.want)
			})
		})
	}
}

// TestHandBeforeNews: a hand that is published does not hide the state that was
// published just before.
func TestHandBeforeNews(t *testing.T) {
	inBubble(t, func(ctx context.Context, t *testing.T) {
		share := newMemShare()
		a, b := startReplica(ctx, t, share, 1, nil), startReplica(ctx, t, share, 1, nil)
		a.attempt(t, Outcome{Class: Rejected})
		synctest.Wait()
		b.Disable("a")
		a.want(t, 2*pollEvery, "disabled")
		b.Enable("a")
		b.want(t, 0, "quarantined")
		a.want(t, 2*pollEvery, "quarantined")
	})
}

// TestHandThenState publishes a hand, and after it a state, of which the hand's
// version must not count as news.
func TestHandThenState(t *testing.T) {
	inBubble(t, func(ctx context.Context, t *testing.T) {
		share := newMemShare()
		a, b := startReplica(ctx, t, share, 1, nil), startReplica(ctx, t, share, 1, nil)
		a.attempt(t, Outcome{Class: Rejected})
		a.Disable("a")
		b.want(t, 2*pollEvery, "disabled")
		b.Enable("a")
		synctest.Wait()
		b.Reset()
		b.want(t, 2*pollEvery, "healthy")
		a.want(t, 0, "healthy")
	})
}

// TestReplicasAgree has three replicas see all kinds of things, with a share that
// fails and forgets: once it is quiet they agree.
func TestReplicasAgree(t *testing.T) {
	for seed := range uint64(200) {
		inBubble(t, func(ctx context.Context, t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			share := newMemShare()
			var replicas []*replica
			for range 3 {
				replicas = append(replicas, startReplica(ctx, t, share, 2, nil))
			}
			labels := []string{"a", "b"}
			for range 60 {
				p, label := replicas[r.IntN(3)], labels[r.IntN(2)]
				switch r.IntN(12) {
				case 0:
					p.Disable(label)
				case 1:
					p.Enable(label)
				case 2:
					p.Reset(label)
				case 3:
					share.set(func() { share.deaf = errors.New("deaf") })
				case 4:
					share.set(func() { share.err = errors.New("away") })
				case 5:
					share.set(func() { share.deaf, share.err = nil, nil })
				case 6:
					if r.IntN(4) == 0 {
						share.set(share.wipe)
					}
				case 7, 8:
					time.Sleep(time.Duration(r.IntN(700)) * time.Millisecond)
				default:
					if l, err := p.Pick(nil, nil); err == nil {
						l.Done(Outcome{Class: Class(r.IntN(int(classes)))})
					}
				}
				if r.IntN(2) == 0 {
					synctest.Wait()
				}
			}
			share.set(func() { share.deaf, share.err = nil, nil })
			time.Sleep(4 * pollEvery)
			synctest.Wait()
			for _, p := range replicas[1:] {
				if got, want := p.states(), replicas[0].states(); got != want {
					t.Errorf("seed %d: states = %q, those of the first replica %q", seed, got, want)
				}
			}
		})
	}
}

func TestAdopt(t *testing.T) {
	b := newBench(t, RoundRobin, 1)
	id := KeyID("sk-canary-000000000000")
	b.adopt([]Entry{{KeyID: id, State: Cooling, Why: WhyFailing, Remaining: 10 * time.Second, Level: 2, Version: 7}}, 0, 7)
	if got := b.keyState(); got != "cooling failing 10s" {
		t.Errorf("state = %q, want what was shared", got)
	}
	for name, e := range map[string]Entry{
		"known already":   {KeyID: id, State: Cooling, Remaining: 30 * time.Second, Version: 7},
		"older":           {KeyID: id, State: Quarantined, Version: 6},
		"of another key":  {KeyID: "uk_other", State: Quarantined, Version: 8},
		"disabled":        {KeyID: id, State: Disabled, Version: 8},
		"a little longer": {KeyID: id, State: Cooling, Remaining: 10*time.Second + time.Second/2, Level: 2, Version: 8},
	} {
		b.adopt([]Entry{e}, 7, 7)
		if got := b.keyState(); got != "cooling failing 10s" {
			t.Errorf("%s: state = %q, want it as before", name, got)
		}
	}
	b.now = b.now.Add(10 * time.Second)
	b.attempt(Outcome{Class: ServerError})
	if got := b.keyState(); got != "cooling failing 20s" {
		t.Errorf("after a trial that failed: %q, want it to go on doubling", got)
	}
	b.adopt([]Entry{{KeyID: id, State: Cooling, Why: WhyFailing, Remaining: time.Hour, Level: -5, Version: 9}}, 7, 9)
	if got := b.keyState(); got != "cooling failing 5m0s" {
		t.Errorf("with too much: %q, want the most that there is", got)
	}

	// A key was added while a poll was under way: all is to be read again.
	b.Set(testKeys(2))
	b.adopt(nil, 9, 10)
	if b.since != 0 {
		t.Errorf("since = %d, want 0", b.since)
	}
}

// TestHandAndStateMeet changes both parts of one entry at two replicas at a time.
func TestHandAndStateMeet(t *testing.T) {
	inBubble(t, func(ctx context.Context, t *testing.T) {
		share := newMemShare()
		a, b := startReplica(ctx, t, share, 1, nil), startReplica(ctx, t, share, 1, nil)
		l, err := b.Pick(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		a.Disable("a")
		synctest.Wait()
		l.Done(Outcome{Class: Rejected})
		a.want(t, 2*pollEvery, "disabled")
		b.want(t, 0, "disabled")
		b.Enable("a")
		a.want(t, 2*pollEvery, "quarantined")
		b.want(t, 0, "quarantined")
	})
}

func TestShareIsAway(t *testing.T) {
	inBubble(t, func(ctx context.Context, t *testing.T) {
		share := newMemShare()
		a, b := startReplica(ctx, t, share, 3, nil), startReplica(ctx, t, share, 3, nil)
		away := errors.New("away")
		share.set(func() { share.err = away })
		a.attempt(t, Outcome{Class: RateLimited, RetryAfter: 4 * time.Minute})
		a.attempt(t, Outcome{Class: RateLimited, RetryAfter: 4 * time.Minute})
		a.Reset("b")
		a.want(t, 10*time.Second, "cooling healthy healthy")
		b.want(t, 0, "healthy healthy healthy")
		share.set(func() { share.err, share.calls = nil, nil })
		b.want(t, 2*pollEvery, "cooling healthy healthy")
		share.set(func() {
			if len(share.calls) != 2 {
				t.Errorf("calls after the return: %q, want one a key", share.calls)
			}
		})
		for _, r := range []*replica{a, b} {
			if _, told := r.heard(); len(told) != 2 || !errors.Is(told[0], away) || told[1] != nil {
				t.Errorf("told %v, want one failure and its end", told)
			}
		}
	})
}

// TestShareForgets: what replicas know is shared again, and versions begin anew.
func TestShareForgets(t *testing.T) {
	inBubble(t, func(ctx context.Context, t *testing.T) {
		share := newMemShare()
		a, b := startReplica(ctx, t, share, 3, nil), startReplica(ctx, t, share, 3, nil)
		for range 5 {
			a.Disable("c")
			synctest.Wait()
			a.Enable("c")
			synctest.Wait()
		}
		a.Disable("a")
		const known = "disabled quarantined healthy"
		b.want(t, pollEvery, "disabled healthy healthy")
		b.attempt(t, Outcome{Class: Rejected})
		a.want(t, 2*pollEvery, known)
		share.set(share.wipe)
		a.want(t, 2*pollEvery, known)
		b.want(t, 0, known)
		late := startReplica(ctx, t, share, 3, nil)
		late.want(t, 0, known)
		b.Disable("c")
		a.want(t, 2*pollEvery, "disabled quarantined disabled")
		late.want(t, 0, "disabled quarantined disabled")
		b.Enable("a")
		b.Enable("c")
		b.Reset()
		a.want(t, 2*pollEvery, "healthy healthy healthy")
		late.want(t, 0, "healthy healthy healthy")
	})
}

// TestKeyThatIsAddedLater learns what the share has known for long.
func TestKeyThatIsAddedLater(t *testing.T) {
	inBubble(t, func(ctx context.Context, t *testing.T) {
		share := newMemShare()
		a, b := startReplica(ctx, t, share, 2, nil), startReplica(ctx, t, share, 1, nil)
		a.Disable("b")
		b.want(t, time.Minute, "healthy")
		b.Set(testKeys(2))
		b.want(t, pollEvery, "healthy disabled")
	})
}

func TestProbes(t *testing.T) {
	for name, c := range map[string]struct {
		found, probe Outcome
		want         string
		probes       int
	}{
		"rejected, then valid":  {Outcome{Class: Rejected, Status: 401}, Outcome{Class: OK}, "healthy", 1},
		"unpaid, then on trial": {Outcome{Class: Unpaid, Status: 402}, Outcome{Class: OK}, "cooling", 1},
		"rejected still":        {Outcome{Class: Rejected, Status: 401}, Outcome{Class: Rejected, Status: 401}, "quarantined", 3},
		"limited says little":   {Outcome{Class: Rejected, Status: 401}, Outcome{Class: RateLimited, Status: 429}, "quarantined", 3},
		"no such endpoint":      {Outcome{Class: Rejected, Status: 401}, Outcome{Class: RequestFault, Status: 404}, "quarantined", 3},
		"does not come about":   {Outcome{Class: Rejected, Status: 401}, Outcome{Class: Unreached}, "quarantined", 3},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(ctx context.Context, t *testing.T) {
				var mu sync.Mutex
				var times []time.Time
				r := startReplica(ctx, t, nil, 2, func(_ context.Context, k Key) Outcome {
					if k.Label != "a" {
						t.Errorf("probed %s, want a", k.Label)
					}
					mu.Lock()
					defer mu.Unlock()
					times = append(times, time.Now())
					return c.probe
				})
				begin := time.Now()
				r.attempt(t, c.found)
				r.want(t, probeEvery*9/10-time.Second, "quarantined healthy")
				mu.Lock()
				if len(times) != 0 {
					t.Errorf("probed after %s, want no sooner than %s", times[0].Sub(begin), probeEvery*9/10)
				}
				mu.Unlock()
				r.want(t, 12*time.Minute, c.want+" healthy")
				mu.Lock()
				defer mu.Unlock()
				if n := len(times); n < c.probes-1 || n > c.probes+1 || n < 1 {
					t.Errorf("%d probes, want about %d", n, c.probes)
				}
				if c.want == "cooling" {
					ids := []string{r.Status()[1].ID}
					l, err := r.Pick(ids, nil)
					if err != nil || !l.Trial() {
						t.Fatalf("Pick: %v, want a trial", err)
					}
					l.Done(c.found)
					r.want(t, 0, "quarantined healthy")
				}
			})
		})
	}
}

// TestProbeIsOvertaken: what a probe finds of a key that was reset and found bad
// again since is of no use; a key that is disabled is not probed.
func TestProbeIsOvertaken(t *testing.T) {
	inBubble(t, func(ctx context.Context, t *testing.T) {
		probing, answer := make(chan Key, 10), make(chan Outcome)
		r := startReplica(ctx, t, nil, 1, func(ctx context.Context, k Key) Outcome {
			probing <- k
			select {
			case o := <-answer:
				return o
			case <-ctx.Done():
				return Outcome{Class: Unreached}
			}
		})
		r.attempt(t, Outcome{Class: Rejected})
		<-probing
		r.Reset()
		r.attempt(t, Outcome{Class: Rejected})
		answer <- Outcome{Class: OK}
		r.want(t, 0, "quarantined")
		r.Disable("a")
		r.want(t, time.Hour, "disabled")
		if n := len(probing); n != 0 {
			t.Errorf("%d probes of a key that is disabled", n)
		}
		r.Enable("a")
		<-probing // and ends with the context
	})
}

func TestManyProbesAreSpread(t *testing.T) {
	inBubble(t, func(ctx context.Context, t *testing.T) {
		const keys = 26
		p := New(Options{}, testKeys(keys))
		for range keys {
			l, err := p.Pick(nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			l.Done(Outcome{Class: Rejected})
		}
		time.Sleep(2 * probeEvery) // all are due
		var mu sync.Mutex
		now, most, all := 0, 0, 0
		go func() {
			_ = p.Run(ctx, func(context.Context, Key) Outcome {
				mu.Lock()
				now++
				all++
				most = max(most, now)
				mu.Unlock()
				time.Sleep(pollEvery / 2)
				mu.Lock()
				defer mu.Unlock()
				now--
				return Outcome{Class: OK}
			})
		}()
		time.Sleep(10 * pollEvery)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if most > probesATick || all != keys || p.Usable() != keys {
			t.Errorf("%d probes, up to %d at a time, %d usable; want %d, up to %d, %d", all, most, p.Usable(), keys, probesATick, keys)
		}
	})
}
