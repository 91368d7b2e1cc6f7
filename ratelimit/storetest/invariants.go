package storetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/weir-gateway/weir/ratelimit"
)

// These look at a decision or at the log alone, and know nothing of buckets.

// checkDecision tells what a decision must not say, whatever was asked.
func checkDecision(d ratelimit.Decision, charges []ratelimit.Charge) error {
	switch {
	case len(d.States) != len(charges):
		return fmt.Errorf("%d states for %d charges", len(d.States), len(charges))
	case d.Admitted && (d.Refused != -1 || d.RetryAfter != 0 || d.TooLarge):
		return errors.New("both admitted and refused")
	case !d.Admitted && (d.Refused < 0 || d.Refused >= len(charges)):
		return fmt.Errorf("refused by charge %d of %d", d.Refused, len(charges))
	case !d.Admitted && d.TooLarge != (d.RetryAfter == 0):
		return fmt.Errorf("too large is %v with a retry after %s", d.TooLarge, d.RetryAfter)
	}
	for i, s := range d.States {
		if err := checkState(s, charges[i].Limit); err != nil {
			return fmt.Errorf("charge %d: %w", i, err)
		}
	}
	if !d.Admitted {
		return checkNamed(d, charges[d.Refused])
	}
	return nil
}

// checkState: what goes into headers is in range.
func checkState(s ratelimit.State, l *ratelimit.Limit) error {
	switch {
	case s.Used < 0:
		return fmt.Errorf("limit %v: %d used", l, s.Used)
	case s.Remaining != max(0, l.Max-s.Used):
		return fmt.Errorf("limit %v: %d remaining with %d used", l, s.Remaining, s.Used)
	case (s.Reset > 0) != (s.Remaining < l.Max):
		return fmt.Errorf("limit %v: reset in %s with %d remaining", l, s.Reset, s.Remaining)
	case s.Reset > longest(l):
		return fmt.Errorf("limit %v: reset in %s", l, s.Reset)
	}
	return nil
}

// longest is how long anything can count.
func longest(l *ratelimit.Limit) time.Duration {
	switch {
	case l.Unit == ratelimit.Concurrency:
		return ratelimit.LeaseTTL
	case l.Calendar != ratelimit.NoCalendar:
		return l.Window + time.Hour // of a clock put back
	}
	return time.Duration(l.Buckets()+1) * l.Step()
}

// checkNamed: the limit that a refusal names is one that fails.
func checkNamed(d ratelimit.Decision, c ratelimit.Charge) error {
	if c.Limit.Shadow {
		return fmt.Errorf("limit %v: refused, though a shadow", c.Limit)
	}
	if d.TooLarge != (c.Cost > c.Limit.Max) {
		return fmt.Errorf("limit %v: too large is %v for a cost of %d", c.Limit, d.TooLarge, c.Cost)
	}
	if used := d.States[d.Refused].Used; used+c.Cost <= c.Limit.Max {
		return fmt.Errorf("limit %v: refused a cost of %d with %d used", c.Limit, c.Cost, used)
	}
	return nil
}

// checkAdmission: with what has just been admitted unforced, the interval that
// ends now is within the limit, debts and all.
func (m *model) checkAdmission(charges []ratelimit.Charge) error {
	for _, c := range charges {
		if c.Limit.Shadow {
			continue
		}
		l, sum := m.ledger(c), int64(0)
		for _, e := range l.log {
			if l.together(e.at, m.now) {
				sum += e.amount
			}
		}
		if c.Limit.Unit == ratelimit.Concurrency {
			sum = l.used(m.now)
		}
		if sum > c.Limit.Max {
			return fmt.Errorf("limit %v of scope %q: %d charged in one window", c.Limit, c.Scope, sum)
		}
	}
	return nil
}

// together tells whether two times are in one interval that the limit is for.
func (l *ledger) together(earlier, later time.Duration) bool {
	if l.limit.Calendar != ratelimit.NoCalendar {
		return l.period(earlier) == l.period(later)
	}
	return later-earlier <= l.limit.Window
}

// checkCap: over the whole history, no interval as long as the window, both
// ends included, and no period was given more than limit, but for debt.
func (l *ledger) checkCap(limit int64) error {
	first, sum := 0, int64(0)
	for _, e := range l.log {
		if e.debt {
			continue
		}
		sum += e.amount
		for ; !l.together(l.log[first].at, e.at); first++ {
			if !l.log[first].debt {
				sum -= l.log[first].amount
			}
		}
		if sum > limit {
			return fmt.Errorf("limit %v: %d charged in the window up to %s", l.limit, sum, time.Unix(0, int64(e.at)).UTC())
		}
	}
	return nil
}
