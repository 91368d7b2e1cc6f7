package storetest

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weir-gateway/weir/ratelimit"
)

const (
	// stepsEnv sets how many steps the histories have in all.
	stepsEnv = "WEIR_STORETEST_STEPS"
	// perHistory is the length of one history.
	perHistory = 300
)

// histories runs random ones until there were enough steps.
func histories(t *testing.T, steps int, factory Factory) {
	if testing.Short() {
		steps /= 10
	}
	if text := os.Getenv(stepsEnv); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s=%q: %v", stepsEnv, text, err)
		}
		steps = n
	}
	done := make(map[string]int)
	for batch := 1; done["steps"] < steps; batch++ {
		// A test of its own, at whose end the stores are closed.
		t.Run(strconv.Itoa(batch), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				if done["steps"] < steps {
					history(t, rt, factory, done)
				}
			})
		})
		if t.Failed() {
			break
		}
	}
	t.Logf("done: %v", done)
}

// history is one random history, compared with the model after every step.
func history(t *testing.T, rt *rapid.T, factory Factory, done map[string]int) {
	clock := NewClock()
	m := &machine{T: rt, std: t, clock: clock, store: factory(t, clock), model: newModel(clock.Now()), done: done}
	m.buildLimits()
	for range perHistory {
		m.step()
		m.compare()
		done["steps"]++
	}
	m.finish()
}

// machine drives a store and its model through the same steps.
type machine struct {
	*rapid.T
	std   *testing.T
	clock *Clock
	store ratelimit.Store
	model *model
	done  map[string]int // how often what was done

	places    []ratelimit.Charge // each limit in each scope, at no cost
	calendars []int              // the places that have a calendar
	seq       uint64
	ids       []ratelimit.ID // that were admitted, newest last
	charges   map[ratelimit.ID][]ratelimit.Charge
	refused   []ratelimit.Charge // by the step before, for want of room
	retry     time.Duration
}

// buildLimits makes limits that are often reached; two differ in Max alone.
func (m *machine) buildLimits() {
	limits := []*ratelimit.Limit{
		limit("qps", ratelimit.Requests, 4, time.Second),
		limit("rpm", ratelimit.Requests, 9, time.Minute),
		limit("rpm", ratelimit.Requests, 12, time.Minute),
		limit("tpm", ratelimit.Tokens, 1000, time.Minute),
		limit("in", ratelimit.InputTokens, 300, 7*time.Second),
		limit("out", ratelimit.OutputTokens, 5000, time.Hour),
		limit("slots", ratelimit.Concurrency, 2, 0),
		limit("site", ratelimit.Concurrency, 5, 0),
	}
	for _, l := range limits {
		for _, scope := range []string{"", "key:a", "key:b"} {
			m.places = append(m.places, ratelimit.Charge{Limit: l, Scope: scope})
		}
	}
	for _, s := range []ratelimit.Spec{
		{Name: "day", Unit: ratelimit.Requests, Max: 6, Calendar: ratelimit.Day, Location: zone("Europe/Berlin")},
		{Name: "week", Unit: ratelimit.Tokens, Max: 3000, Calendar: ratelimit.Week, Location: zone("America/Havana")},
		{Name: "month", Unit: ratelimit.OutputTokens, Max: 9000, Calendar: ratelimit.Month},
		{Name: "fine", Unit: ratelimit.Tokens, Max: 900, Window: time.Minute, Precision: ratelimit.HighPrecision},
		{Name: "trial", Unit: ratelimit.Requests, Max: 3, Window: time.Minute, Shadow: true},
		{Name: "qps", Unit: ratelimit.Requests, Max: 2, Window: time.Second, Shadow: true}, // and in force as well
		{Name: "slots", Unit: ratelimit.Concurrency, Max: 1, Shadow: true},
	} {
		m.places = append(m.places, ratelimit.Charge{Limit: spec(s), Scope: "key:a"})
	}
	for i, c := range m.places {
		if c.Limit.Calendar != ratelimit.NoCalendar {
			m.calendars = append(m.calendars, i)
		}
	}
	m.charges = make(map[ratelimit.ID][]ratelimit.Charge)
}

// step draws what to do; the first is what a failing history shrinks to.
func (m *machine) step() {
	refused := m.refused
	m.refused = nil
	actions := map[string]func(){
		"advance": m.advance,
		"admit":   m.admit,
		"replay":  m.replay,
		"settle":  m.settle,
		"cancel":  m.cancel,
		"renew":   m.renew,
		"force":   m.force,
		"late":    m.late,
		"retry":   func() { m.retryAfter(refused) },
	}
	action := rapid.SampledFrom([]string{
		"advance", "admit", "settle", "admit", "renew", "cancel", "replay", "late", "force",
		"admit", "settle", "admit", "settle", "admit", "retry", "admit",
	}).Draw(m.T, "do")
	switch {
	case refused != nil && rapid.Bool().Draw(m.T, "retry"):
		action = "retry"
	case refused == nil && action == "retry":
		action = "admit"
	}
	actions[action]()
	m.done[action]++
}

func (m *machine) advance() {
	const toNextPeriod = -1
	by := rapid.SampledFrom([]time.Duration{
		0, time.Millisecond, 97 * time.Millisecond, time.Second, time.Second, 4 * time.Second,
		65 * time.Minute, 11 * time.Minute, time.Minute, 5 * time.Second, 10 * time.Second,
		29 * time.Second, 30 * time.Second, 10 * time.Millisecond, 100 * time.Millisecond,
		toNextPeriod,
	}).Draw(m.T, "by")
	if by == toNextPeriod {
		c := m.places[rapid.SampledFrom(m.calendars).Draw(m.T, "period of")]
		by = m.model.ledger(c).nextPeriod(m.model.now) - m.model.now - rapid.SampledFrom([]time.Duration{
			0, time.Millisecond, 3 * time.Second,
		}).Draw(m.T, "before")
	}
	m.move(max(0, by))
}

func (m *machine) move(d time.Duration) {
	m.clock.Advance(d)
	m.model.now += d
}

func (m *machine) newID() ratelimit.ID {
	m.seq++
	return ratelimit.ID{Instance: 3, Seq: m.seq}
}

// oldID draws one of the latest exchanges, or one that never was.
func (m *machine) oldID() ratelimit.ID {
	latest := m.ids[max(0, len(m.ids)-20):]
	if i := rapid.IntRange(0, len(latest)).Draw(m.T, "exchange"); i < len(latest) {
		return latest[len(latest)-1-i]
	}
	return ratelimit.ID{Instance: 4, Seq: m.seq}
}

// drawCharges draws one to four charges of different accounts.
func (m *machine) drawCharges() []ratelimit.Charge {
	place := rapid.IntRange(0, len(m.places)-1)
	var charges []ratelimit.Charge
	for _, i := range rapid.SliceOfNDistinct(place, 1, 4, func(i int) ratelimit.Charge { return m.accountOf(i) }).Draw(m.T, "limits") {
		c := m.places[i]
		if u := c.Limit.Unit; u == ratelimit.Concurrency || u == ratelimit.Requests {
			c.Cost = 1
		} else {
			c.Cost = rapid.Int64Range(0, c.Limit.Max*3/4).Draw(m.T, "cost")
			if rapid.IntRange(0, 30).Draw(m.T, "large") == 30 {
				c.Cost = c.Limit.Max + 1
			}
		}
		charges = append(charges, c)
	}
	return charges
}

// accountOf tells places apart that are different accounts.
func (m *machine) accountOf(place int) ratelimit.Charge {
	c := m.places[place]
	for _, other := range m.places[:place] {
		if other.Limit.ID() == c.Limit.ID() && other.Scope == c.Scope {
			return other
		}
	}
	return c
}

func (m *machine) admit() { m.ask(m.newID(), m.drawCharges(), false) }

func (m *machine) force() { m.ask(m.newID(), m.drawCharges(), true) }

// replay admits again what was admitted, whether or not it has ended.
func (m *machine) replay() {
	if id := m.oldID(); m.charges[id] != nil {
		m.ask(id, m.charges[id], false)
	}
}

// ask admits in both, and wants one answer.
func (m *machine) ask(id ratelimit.ID, charges []ratelimit.Charge, force bool) ratelimit.Decision {
	fresh := m.model.receipt(id) == nil
	want := m.model.admit(id, charges, force)
	got, err := m.store.Admit(m.std.Context(), id, charges, ratelimit.AdmitOptions{Force: force})
	if err != nil {
		m.Fatalf("Admit(%v, %v) = error %v", id, charges, err)
	}
	if err := checkDecision(got, charges); err != nil {
		m.Fatalf("Admit(%v, %v) = %+v: %v", id, charges, got, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		m.Fatalf("Admit(%v, %v) (-want +got):\n%s", id, charges, diff)
	}
	m.note(id, charges, got)
	if got.Admitted && fresh && !force {
		if err := m.model.checkAdmission(charges); err != nil {
			m.Fatalf("Admit(%v, %v) = %+v: %v", id, charges, got, err)
		}
	}
	return got
}

// note remembers an answer for the steps that follow.
func (m *machine) note(id ratelimit.ID, charges []ratelimit.Charge, d ratelimit.Decision) {
	switch {
	case !d.Admitted:
		m.done["refused"]++
		if !d.TooLarge {
			m.refused, m.retry = charges, d.RetryAfter
		}
	case m.charges[id] == nil:
		m.ids = append(m.ids, id)
		m.charges[id] = charges
	}
}

// retryAfter comes back as told: a moment too early, then in time.
func (m *machine) retryAfter(charges []ratelimit.Charge) {
	wait := m.retry
	m.move(wait - time.Millisecond)
	if d := m.ask(m.newID(), charges, false); d.Admitted {
		m.Fatalf("Admit(%v) a millisecond before %s = %+v, want it refused", charges, wait, d)
	}
	m.refused = nil
	m.move(time.Millisecond)
	if d := m.ask(m.newID(), charges, false); !d.Admitted {
		m.Fatalf("Admit(%v) after %s = %+v, want it admitted", charges, wait, d)
	}
}

// late admits after the caller gave up: nothing may change.
func (m *machine) late() {
	opts := ratelimit.AdmitOptions{NotAfter: m.clock.Now().Add(-time.Millisecond)}
	charges := m.drawCharges()
	if d, err := m.store.Admit(m.std.Context(), m.newID(), charges, opts); err == nil {
		m.Fatalf("Admit(%v) after its deadline = %+v, want an error", charges, d)
	}
}

func (m *machine) settle() {
	id := m.oldID()
	var actual []int64
	if rapid.IntRange(0, 5).Draw(m.T, "known") > 0 {
		actual = make([]int64, 0, 4)
		for _, c := range m.charges[id] {
			actual = append(actual, rapid.Int64Range(0, c.Cost+c.Cost/3+1).Draw(m.T, "actual"))
		}
	}
	m.model.end(id, actual)
	if err := m.store.Settle(m.std.Context(), id, actual); err != nil {
		m.Fatalf("Settle(%v, %v) = error %v", id, actual, err)
	}
}

func (m *machine) cancel() {
	id := m.oldID()
	m.model.cancel(id)
	if err := m.store.Cancel(m.std.Context(), id); err != nil {
		m.Fatalf("Cancel(%v) = error %v", id, err)
	}
}

func (m *machine) renew() {
	ids := []ratelimit.ID{m.oldID(), m.oldID(), m.oldID()}
	want := m.model.renew(ids)
	got, err := m.store.Renew(m.std.Context(), ids)
	if err != nil {
		m.Fatalf("Renew(%v) = error %v", ids, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		m.Fatalf("Renew(%v) lost (-want +got):\n%s", ids, diff)
	}
}

// compare wants every counter of the store to be that of the log.
func (m *machine) compare() {
	want := m.model.states(m.places)
	got, err := m.store.Peek(m.std.Context(), m.places)
	if err != nil {
		m.Fatalf("Peek = error %v", err)
	}
	for i, c := range m.places {
		if got[i] != want[i] {
			m.Fatalf("limit %v of scope %q = %+v, want %+v", c.Limit, c.Scope, got[i], want[i])
		}
		if err := checkState(got[i], c.Limit); err != nil {
			m.Fatal(err)
		}
	}
}

// finish looks back on the whole history, and wants nothing left of it.
func (m *machine) finish() {
	most := make(map[account]int64)
	for _, c := range m.places {
		key := account{c.Limit.ID(), c.Scope}
		most[key] = max(most[key], c.Limit.Max)
	}
	for key, l := range m.model.accounts {
		if err := l.checkCap(most[key]); err != nil {
			m.Fatal(err)
		}
	}
	m.move(32 * 24 * time.Hour) // longer than any period
	m.compare()
	for _, c := range m.places {
		if used := m.model.state(c).Used; used != 0 {
			m.Fatalf("limit %v of scope %q: %d used after all has expired", c.Limit, c.Scope, used)
		}
	}
	if r, ok := m.store.(Residue); ok && r.Residue(m.std) != 0 {
		m.Fatalf("%d things are left, want none", r.Residue(m.std))
	}
}
