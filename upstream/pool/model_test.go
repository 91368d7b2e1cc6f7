package pool

import (
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is a naive pool: for each key it keeps the story of what happened, and
// works out the state from the table each time it is asked.
type model struct {
	*rapid.T
	pool   *Pool
	now    time.Time
	keys   []*modelKey
	leases []*modelLease
}

type modelKey struct {
	key        Key
	disabled   bool
	quarantine bool
	cooling    bool
	until      time.Time
	doublings  int
	strikes    []time.Time // since the last success or change
	changes    int
	inFlight   int
	gone       bool
}

type modelLease struct {
	lease *Lease
	key   *modelKey
	// changes of the key when it began; trial if the key was cooling then.
	changes int
	trial   bool
}

func (m *model) onTrial(k *modelKey) bool {
	return slices.ContainsFunc(m.leases, func(l *modelLease) bool { return l.key == k && l.trial && l.changes == k.changes })
}

func (m *model) usable(k *modelKey) bool {
	if k.disabled || k.quarantine {
		return false
	}
	return !k.cooling || !m.now.Before(k.until) && !m.onTrial(k)
}

// expect is what an error of Pick should count.
func (m *model) expect(tried []string, skipped string) NoKeyError {
	var e NoKeyError
	for _, k := range m.keys {
		switch {
		case k.disabled:
			e.Disabled++
		case k.quarantine:
			e.Quarantined++
		case !m.usable(k):
			e.Cooling++
		case slices.Contains(tried, k.key.ID):
			e.Tried++
		case k.key.Label == skipped:
			e.Skipped++
		}
	}
	return e
}

func (m *model) pick() {
	var tried []string
	for _, k := range m.keys {
		if rapid.Bool().Draw(m.T, "tried") && rapid.Bool().Draw(m.T, "really") {
			tried = append(tried, k.key.ID)
		}
	}
	skipped := rapid.SampledFrom([]string{"", "", "a", "c"}).Draw(m.T, "skipped")
	want := m.expect(tried, skipped)
	l, err := m.pool.Pick(tried, func(k *Key) bool { return k.Label == skipped })
	if err != nil {
		var got *NoKeyError
		if !errors.As(err, &got) {
			m.Fatal(err)
		}
		if (got.Soonest > 0) != (got.Cooling > 0) {
			m.Fatalf("soonest %s with %d cooling", got.Soonest, got.Cooling)
		}
		got.Soonest = 0
		if *got != want {
			m.Fatalf("Pick: %+v, want %+v", *got, want)
		}
		if want.Cooling+want.Quarantined+want.Disabled+want.Tried+want.Skipped != len(m.keys) {
			m.Fatalf("Pick: %v, though a key can be used", err)
		}
		return
	}
	i := slices.IndexFunc(m.keys, func(k *modelKey) bool { return k.key.ID == l.Key().ID })
	if i < 0 {
		m.Fatalf("picked %s, which is not of the pool", l.Key().Label)
	}
	k := m.keys[i]
	if !m.usable(k) || slices.Contains(tried, k.key.ID) || k.key.Label == skipped {
		m.Fatalf("picked %s: usable %v, tried %v, skipped %q", k.key.Label, m.usable(k), tried, skipped)
	}
	if l.Trial() != k.cooling {
		m.Fatalf("Trial() = %v of a key that cools: %v", l.Trial(), k.cooling)
	}
	k.inFlight++
	m.leases = append(m.leases, &modelLease{l, k, k.changes, k.cooling})
}

func (m *model) draw() *modelLease {
	if len(m.leases) == 0 {
		m.Skip("nothing in flight")
	}
	i := rapid.IntRange(0, len(m.leases)-1).Draw(m.T, "lease")
	l := m.leases[i]
	m.leases = slices.Delete(m.leases, i, i+1)
	return l
}

func (m *model) done() {
	l := m.draw()
	o := Outcome{Class: Class(rapid.IntRange(0, int(classes)-1).Draw(m.T, "class"))}
	if o.Class == RateLimited {
		o.RetryAfter = time.Duration(rapid.IntRange(0, 400).Draw(m.T, "told")) * time.Second
	}
	l.lease.Done(o)
	l.lease.Done(Outcome{Class: Rejected}) // changes nothing
	l.key.inFlight--
	m.learn(l, o)
}

// learn is the table of states, row by row.
func (m *model) learn(l *modelLease, o Outcome) {
	k, fresh := l.key, l.changes == l.key.changes
	told := min(o.RetryAfter, 5*time.Minute)
	switch {
	case k.gone, k.quarantine:
	case o.Class == OK && fresh:
		k.strikes = nil
		if k.cooling {
			m.heal(k)
		}
	case (o.Class == Rejected || o.Class == Unpaid) && (fresh || k.cooling):
		m.heal(k)
		k.quarantine = true
	case o.Class == RateLimited && fresh && told > 0:
		m.cool(k, told)
	case o.Class == RateLimited && fresh:
		m.cool(k, min(time.Second<<k.doublings, time.Minute))
		k.doublings++
	case o.Class == RateLimited && k.cooling && told > k.until.Sub(m.now):
		m.cool(k, told)
	case slices.Contains([]Class{ServerError, Timeout, Disconnect}, o.Class) && fresh:
		k.strikes = append(k.strikes, m.now)
		n := len(k.strikes)
		if k.cooling || n >= 3 && m.now.Sub(k.strikes[n-3]) <= 30*time.Second {
			m.cool(k, min(5*time.Second<<k.doublings, 5*time.Minute))
			k.doublings++
		}
	}
}

func (m *model) cool(k *modelKey, d time.Duration) {
	k.cooling, k.until = true, m.now.Add(d)
	k.doublings = min(k.doublings, 20)
	k.changes++
}

func (m *model) heal(k *modelKey) {
	if k.cooling || k.quarantine {
		k.changes++
	}
	k.cooling, k.quarantine, k.doublings, k.strikes = false, false, 0, nil
}

func (m *model) pass() {
	m.now = m.now.Add(time.Duration(rapid.IntRange(1, 20_000).Draw(m.T, "ms")) * time.Millisecond)
}

func (m *model) operate() {
	k := rapid.SampledFrom(m.keys).Draw(m.T, "key")
	switch rapid.IntRange(0, 3).Draw(m.T, "what") {
	case 0:
		k.disabled = m.pool.Disable(k.key.Label)
	case 1:
		k.disabled = !m.pool.Enable(k.key.ID)
	case 2:
		m.pool.Reset(k.key.Label)
		m.heal(k)
	case 3:
		m.pool.Reset()
		for _, k := range m.keys {
			m.heal(k)
		}
	}
}

func (m *model) reload() {
	var keys []Key
	var models []*modelKey
	for _, key := range testKeys(4) {
		if !rapid.Bool().Draw(m.T, "kept") && len(keys) > 0 {
			continue
		}
		key.ID = KeyID(key.Secret)
		keys = append(keys, key)
		i := slices.IndexFunc(m.keys, func(k *modelKey) bool { return k.key.ID == key.ID })
		if i < 0 {
			models = append(models, &modelKey{key: key})
			continue
		}
		if m.keys[i].quarantine {
			m.heal(m.keys[i])
		}
		models = append(models, m.keys[i])
	}
	for _, k := range m.keys {
		k.gone = !slices.Contains(models, k)
	}
	m.pool.Set(keys)
	m.keys = models
}

// check compares what shows.
func (m *model) check() {
	usable := 0
	for i, s := range m.pool.Status() {
		k := m.keys[i]
		want := Healthy
		switch {
		case k.disabled:
			want = Disabled
		case k.quarantine:
			want = Quarantined
		case k.cooling:
			want = Cooling
		}
		if s.ID != k.key.ID || s.State != want || s.InFlight != k.inFlight || s.InFlight < 0 {
			m.Fatalf("key %s: %s with %d in flight, want %s with %d", s.Label, s.State, s.InFlight, want, k.inFlight)
		}
		if want == Cooling && !s.Until.Equal(k.until) {
			m.Fatalf("key %s cools for %s, want %s", s.Label, s.Until.Sub(m.now), k.until.Sub(m.now))
		}
		trials := 0
		for _, l := range m.leases {
			if l.key == k && l.trial && l.changes == k.changes {
				trials++
			}
		}
		if trials > 1 {
			m.Fatalf("key %s has %d trials at a time", s.Label, trials)
		}
		if m.usable(k) {
			usable++
		}
	}
	if got := m.pool.Usable(); got != usable || m.pool.Len() != len(m.keys) {
		m.Fatalf("%d usable of %d, want %d of %d", got, m.pool.Len(), usable, len(m.keys))
	}
}

func TestModel(t *testing.T) {
	for name, strategy := range map[string]Strategy{"round robin": RoundRobin, "weighted": Weighted, "least in flight": LeastInFlight} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				m := &model{T: t, now: testNow}
				m.pool = New(Options{Strategy: strategy, Now: func() time.Time { return m.now }}, testKeys(4))
				for _, key := range testKeys(4) {
					key.ID = KeyID(key.Secret)
					m.keys = append(m.keys, &modelKey{key: key})
				}
				act := func(f func()) func(*rapid.T) { return func(t *rapid.T) { m.T = t; f() } }
				t.Repeat(map[string]func(*rapid.T){
					"pick": act(m.pick), "pick again": act(m.pick), "done": act(m.done), "done again": act(m.done),
					"time passes": act(m.pass), "operate": act(m.operate), "reload": act(m.reload), "": act(m.check),
				})
				for _, l := range m.leases {
					l.lease.Done(Outcome{})
				}
				for _, s := range m.pool.Status() {
					if s.InFlight != 0 {
						t.Fatalf("key %s has %d in flight at the end", s.Label, s.InFlight)
					}
				}
			})
		})
	}
}
