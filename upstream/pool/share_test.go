package pool

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

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
	for seed := range uint64(300) {
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
	id := KeyID("sk-canary-000000000000")
	known := Entry{KeyID: id, State: Cooling, Why: WhyFailing, Remaining: 10 * time.Second, Level: 2, Version: 7}
	for name, c := range map[string]struct {
		e     Entry
		state string
		next  string // after a trial that fails
	}{
		"nothing new":     {known, "cooling failing 10s", "cooling failing 20s"},
		"known already":   {Entry{KeyID: id, State: Cooling, Remaining: 30 * time.Second, Version: 7}, "cooling failing 10s", "cooling failing 20s"},
		"older":           {Entry{KeyID: id, State: Quarantined, Version: 6}, "cooling failing 10s", "cooling failing 20s"},
		"of another key":  {Entry{KeyID: "uk_other", State: Quarantined, Version: 8}, "cooling failing 10s", "cooling failing 20s"},
		"no state":        {Entry{KeyID: id, State: Disabled, Version: 8}, "cooling failing 10s", "cooling failing 20s"},
		"a little longer": {Entry{KeyID: id, State: Cooling, Remaining: 10*time.Second + time.Second/2, Level: 3, Version: 8}, "cooling failing 10s", "cooling failing 40s"},
		"longer":          {Entry{KeyID: id, State: Cooling, Why: WhyRateLimited, Remaining: time.Minute, Version: 8}, "cooling rate_limited 1m0s", "cooling failing 5s"},
		"too much":        {Entry{KeyID: id, State: Cooling, Why: WhyFailing, Remaining: time.Hour, Level: 1000, Version: 8}, "cooling failing 5m0s", "cooling failing 5m0s"},
		"too little":      {Entry{KeyID: id, State: Cooling, Why: WhyFailing, Remaining: -time.Hour, Level: -5, Version: 8}, "cooling failing 0s", "cooling failing 5s"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, RoundRobin, 1)
			b.adopt([]Entry{known}, 7)
			b.adopt([]Entry{c.e}, 8)
			if got := b.keyState(); got != c.state {
				t.Errorf("state = %q, want %q", got, c.state)
			}
			b.now = b.now.Add(maxCooling)
			b.attempt(Outcome{Class: ServerError})
			if got := b.keyState(); got != c.next {
				t.Errorf("after a trial that failed: %q, want %q", got, c.next)
			}
		})
	}
}

// TestKeyIsAddedDuringAPoll: all is to be read by the next one.
func TestKeyIsAddedDuringAPoll(t *testing.T) {
	b := newBench(t, RoundRobin, 1)
	b.since()
	b.adopt(nil, 9)
	if got := b.since(); got != 9 {
		t.Errorf("since() = %d, want 9", got)
	}
	b.Set(testKeys(2))
	b.adopt(nil, 10)
	if first, then := b.since(), b.since(); first != 0 || then != 10 {
		t.Errorf("since() = %d and then %d, want 0 and then 10", first, then)
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
		share.set(func() { share.err = errors.New("away") })
		b.Set(testKeys(2))
		b.want(t, time.Minute, "healthy healthy")
		share.set(func() { share.err = nil })
		b.want(t, pollEvery, "healthy disabled")
	})
}
