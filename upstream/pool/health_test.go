package pool

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestStates follows one key through outcomes. A step is an outcome of a request
// that begins and ends there, or a time that passes.
func TestStates(t *testing.T) {
	limited := func(told time.Duration) Outcome { return Outcome{Class: RateLimited, Status: 429, RetryAfter: told} }
	ok, failed, reset := Outcome{Class: OK}, Outcome{Class: ServerError, Status: 503}, Outcome{Class: Disconnect}
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
		"cut in the middle":  {Outcome{Class: OK}, Outcome{Class: Disconnect}, "healthy trial", "healthy trial", 0, 1, Disconnect},
		"left in the middle": {Outcome{Class: OK}, Outcome{Class: Aborted}, "healthy trial", "healthy trial", 0, 0, Aborted},
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

// A key that was given back unused has had no attempt.
func TestReturn(t *testing.T) {
	b := newBench(t, RoundRobin, 1)
	b.attempt(Outcome{Class: RateLimited, RetryAfter: time.Second})
	b.now = b.now.Add(time.Second)
	before := b.Status()[0]
	l := b.pick()
	if b.Usable() != 0 {
		t.Error("the key is not on trial")
	}
	l.Return()
	l.Return()
	l.Done(Outcome{Class: Rejected})
	if diff := cmp.Diff(before, b.Status()[0]); diff != "" || b.Usable() != 1 {
		t.Errorf("%d usable, status (-before +after):\n%s", b.Usable(), diff)
	}
}

// Where no connection comes about the key has nothing to do with it, and the attempt has
// failed all the same.
func TestFailuresOfConnections(t *testing.T) {
	b := newBench(t, RoundRobin, 1)
	for range 2 * maxStrikes {
		b.attempt(Outcome{Class: Connect})
	}
	s := b.Status()[0]
	if s.State != Healthy || s.SuccessRate != 0 || s.Ended() != 2*maxStrikes || s.LastFailure == nil || s.LastFailure.Class != Connect {
		t.Errorf("not connected: %+v", s)
	}
	for range maxStrikes {
		b.attempt(Outcome{Class: Timeout})
	}
	if s := b.Status()[0]; s.State != Cooling || s.Failures[Timeout] != maxStrikes || s.LastFailure.Class != Timeout {
		t.Errorf("not in time: %+v", s)
	}
}
