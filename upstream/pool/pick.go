package pool

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// NoKeyError is that no key can be used now. Each key is counted once.
type NoKeyError struct {
	Upstream    string
	Soonest     time.Duration // until a cooling key may be tried; 0 if none cools
	Cooling     int
	Quarantined int
	Disabled    int
	Tried       int
	Skipped     int
}

// trialWait is how long a key may be expected to be on trial.
const trialWait = time.Second

// Error tells what keeps the keys.
func (e *NoKeyError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "upstream %q: no key can be used", e.Upstream)
	sep := ": "
	for _, c := range []struct {
		n    int
		what string
	}{
		{e.Cooling, "cooling"},
		{e.Quarantined, "quarantined"},
		{e.Disabled, "disabled"},
		{e.Tried, "tried"},
		{e.Skipped, "at their limits"},
	} {
		if c.n > 0 {
			fmt.Fprintf(&b, "%s%d %s", sep, c.n, c.what)
			sep = ", "
		}
	}
	if e.Soonest > 0 {
		fmt.Fprintf(&b, "; the next in %s", e.Soonest.Round(time.Millisecond))
	}
	return b.String()
}

// Pick chooses a key that can be used, that is not among the IDs in tried, and that
// skip, if it is not nil, does not want left out. Skip is called with the pool
// locked: it must be quick and call nothing of the pool. The error is a
// [*NoKeyError].
func (p *Pool) Pick(tried []string, skip func(*Key) bool) (*Lease, error) {
	now := p.opts.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	var none NoKeyError
	s := p.choose(&none, now, tried, skip)
	if s == nil {
		e := none
		e.Upstream = p.opts.Upstream
		return nil, &e
	}
	l := &Lease{pool: p, slot: s, key: s.key, epoch: s.epoch}
	if s.state == Cooling {
		s.trial, l.trial = l, true
	}
	s.inFlight++
	s.requests++
	return l, nil
}

// Unusable is why Pick would choose none of the keys, nil if it would choose one.
func (p *Pool) Unusable() *NoKeyError {
	now := p.opts.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	none := NoKeyError{Upstream: p.opts.Upstream}
	for _, s := range p.slots {
		if !none.counts(s, now, nil, nil) {
			return nil
		}
	}
	return &none
}

// choose goes round once from where the turn is.
func (p *Pool) choose(none *NoKeyError, now time.Time, tried []string, skip func(*Key) bool) *slot {
	var best *slot
	place, total := p.next, 0
	for i := range p.slots {
		at := p.next + i
		if at >= len(p.slots) {
			at -= len(p.slots)
		}
		s := p.slots[at]
		if none.counts(s, now, tried, skip) {
			continue
		}
		total += s.key.Weight
		if s.preferred(best, p.opts.Strategy) {
			best, place = s, at
		}
		if p.opts.Strategy == RoundRobin {
			break
		}
	}
	switch {
	case best == nil:
	case p.opts.Strategy == Weighted:
		best.current -= total
	default:
		if p.next = place + 1; p.next == len(p.slots) {
			p.next = 0
		}
	}
	return best
}

// preferred tells whether a key comes before the best one so far. Under Weighted
// it is called once for each key that can be used: each comes nearer to its turn
// by its weight, and the one whose turn it is pays for all (smooth weighted round
// robin, as nginx has it). A key that can not be used stands still, and so has no
// turns to catch up on.
func (s *slot) preferred(best *slot, by Strategy) bool {
	switch by {
	case LeastInFlight:
		return best == nil || s.inFlight < best.inFlight
	case Weighted:
		s.current += s.key.Weight
		return best == nil || s.current > best.current
	default:
		return true
	}
}

// counts notes why a key is not to be given; it answers false if it may be.
func (e *NoKeyError) counts(s *slot, now time.Time, tried []string, skip func(*Key) bool) bool {
	switch {
	case s.disabled:
		e.Disabled++
	case s.state == Quarantined:
		e.Quarantined++
	case s.state == Cooling && !s.usable(now):
		e.Cooling++
		wait := s.until.Sub(now)
		if wait <= 0 {
			wait = trialWait
		}
		if e.Soonest == 0 || wait < e.Soonest {
			e.Soonest = wait
		}
	case slices.Contains(tried, s.key.ID):
		e.Tried++
	case skip != nil && skip(s.key):
		e.Skipped++
	default:
		return false
	}
	return true
}
