package ratelimit

import "time"

// Tally is the state of one limit in one scope: a window, or the leases of a
// concurrency limit. It is not safe for concurrent use.
type Tally struct {
	window Window
	leases Leases // of Concurrency, whose window has no limit
}

// Mark tells where in a tally a charge lies: the bucket of a window, or the
// slot of a lease.
type Mark int64

// MakeTally returns the empty tally of a limit.
func MakeTally(l *Limit) Tally {
	if l.Unit == Concurrency {
		return Tally{}
	}
	return Tally{window: NewWindow(l)}
}

// Wait is how long it takes until the cost fits a limit of limit ≥ cost; 0 if
// it fits now. Everything fits a nil tally, which is an empty one.
func (t *Tally) Wait(now time.Duration, limit, cost int64) time.Duration {
	switch {
	case t == nil:
		return 0
	case t.concurrency():
		return t.leases.Wait(now, limit)
	}
	return t.window.Wait(now, limit, cost)
}

// State is where the tally stands against a limit of limit.
func (t *Tally) State(now time.Duration, limit int64) State {
	if t == nil {
		return State{Remaining: limit}
	}
	var s State
	if t.concurrency() {
		s.Used, s.Reset = int64(t.leases.Live(now)), t.leases.Reset(now)
	} else {
		s.Used, s.Reset = t.window.Used(now), t.window.Reset(now)
	}
	s.Remaining = max(0, limit-s.Used)
	return s
}

// Charge adds the cost, or grants a lease for ttl, whatever the limit.
func (t *Tally) Charge(now time.Duration, id ID, cost int64, ttl time.Duration) Mark {
	if t.concurrency() {
		return Mark(t.leases.Grant(now, id, ttl))
	}
	return Mark(t.window.Charge(now, cost))
}

// Settle replaces what Charge reserved by the actual cost, and releases the
// lease.
func (t *Tally) Settle(now time.Duration, id ID, mark Mark, reserved, actual int64) {
	switch {
	case t.concurrency():
		t.leases.Release(int64(mark), id)
	case actual < reserved:
		t.window.Refund(now, int64(mark), reserved-actual)
	case actual > reserved:
		t.window.Charge(now, actual-reserved)
	}
}

// Renew extends the lease for ttl. If it was lost it is granted again by force,
// held is false, and the mark is the new one. A window has nothing to renew.
func (t *Tally) Renew(now time.Duration, id ID, mark Mark, ttl time.Duration) (renewed Mark, held bool) {
	if !t.concurrency() || t.leases.Renew(now, int64(mark), id, ttl) {
		return mark, true
	}
	return Mark(t.leases.Grant(now, id, ttl)), false
}

// Clear forgets what a window has counted. Leases stay: they tell what runs.
func (t *Tally) Clear() { t.window.Clear() }

// Leases is how many leases are live; 0 for a window.
func (t *Tally) Leases(now time.Duration) int { return t.leases.Live(now) }

// Empty tells whether nothing counts any more.
func (t *Tally) Empty(now time.Duration) bool {
	if t.concurrency() {
		return t.leases.Live(now) == 0
	}
	return t.window.Used(now) == 0
}

func (t *Tally) concurrency() bool { return t.window.limit == nil }

// Decide tells whether all charges fit their tallies (nil where there is none
// yet), and if not which limit to name and how long to wait; and which shadow
// limits they do not fit. It charges nothing, and leaves States to the caller.
func Decide(now time.Duration, charges []Charge, tallies []*Tally) Decision {
	d := Decision{Admitted: true, Refused: -1}
	for i := range charges {
		l, wait := charges[i].Limit, time.Duration(0)
		tooLarge := charges[i].Cost > l.Max
		if !tooLarge {
			wait = tallies[i].Wait(now, l.Max, charges[i].Cost)
		}
		switch {
		case !tooLarge && wait == 0:
		case l.Shadow:
			d.Shadowed = append(d.Shadowed, i)
		case d.TooLarge: // the first that never fits is named before all others
		case tooLarge:
			d.Admitted, d.Refused, d.RetryAfter, d.TooLarge = false, i, 0, true
		case wait > d.RetryAfter:
			d.Admitted, d.Refused, d.RetryAfter = false, i, wait
		}
	}
	return d
}
