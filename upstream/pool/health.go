package pool

import (
	"fmt"
	"slices"
	"time"
)

// State is whether a key can be used.
type State uint8

// The states of a key.
const (
	Healthy     State = iota
	Cooling           // not before some time, and then one request first
	Quarantined       // not before a probe, a reload or a reset
	Disabled          // not before an operator enables it
	states            // how many there are
)

var stateNames = [states]string{"healthy", "cooling", "quarantined", "disabled"}

// States are all states.
func States() []State {
	all := make([]State, states)
	for i := range all {
		all[i] = State(i)
	}
	return all
}

// String is the state as status, metrics and stores have it.
func (s State) String() string {
	if s >= states {
		return fmt.Sprintf("state(%d)", uint8(s))
	}
	return stateNames[s]
}

// MarshalText is String.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *State) UnmarshalText(text []byte) error {
	i := slices.Index(stateNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("state of a key: got %.20q, want one of %q", text, stateNames)
	}
	*s = State(i)
	return nil
}

// Why is what brought a key into its state.
type Why string

// The reasons of states.
const (
	WhyRateLimited Why = "rate_limited"
	WhyFailing     Why = "failing" // strikes, or a trial that failed
	WhyRejected    Why = "rejected"
	WhyUnpaid      Why = "unpaid"
	WhyTrial       Why = "trial"    // a trial succeeded
	WhyProbe       Why = "probe"    // a probe succeeded
	WhyReload      Why = "reload"   // the keys were read again
	WhyOperator    Why = "operator" // reset, disabled, enabled
	WhyExcused     Why = "excused"  // it was the upstream's fault
)

const (
	maxCooling   = 5 * time.Minute
	limitedBase  = time.Second // of a 429 that tells no time; doubles
	limitedMost  = time.Minute
	failingBase  = 5 * time.Second // of strikes; doubles
	maxStrikes   = 3
	strikeWindow = 30 * time.Second
	maxLevel     = 10 // doubling further changes nothing
)

// health is what outcomes have taught of a key, and no more: its methods are the
// table of states. They answer whether the state has changed.
type health struct {
	state   State // not Disabled
	why     Why
	until   time.Time // Cooling: when its trial may begin
	level   int       // how often in a row the time to cool has doubled
	strikes [maxStrikes]time.Time
}

// learn takes in an outcome. It is fresh if the state has not changed since its
// attempt began; of a cooling key that is the outcome of the trial.
func (h *health) learn(o Outcome, fresh bool, now time.Time) bool {
	if h.state == Quarantined {
		return false // no attempt can mend that
	}
	switch o.Class {
	case OK:
		return fresh && h.succeed()
	case RateLimited:
		return h.limited(min(o.RetryAfter, maxCooling), fresh, now)
	case Rejected:
		return h.quarantine(WhyRejected, fresh)
	case Unpaid:
		return h.quarantine(WhyUnpaid, fresh)
	case ServerError, Timeout, Disconnect:
		return fresh && h.fail(now)
	default:
		return false
	}
}

func (h *health) succeed() bool {
	h.strikes = [maxStrikes]time.Time{}
	return h.state == Cooling && h.heal(WhyTrial)
}

// heal makes the key healthy, as if nothing had happened.
func (h *health) heal(why Why) bool {
	changed := h.state != Healthy
	if changed || h.strikes != [maxStrikes]time.Time{} {
		*h = health{state: Healthy, why: why}
	}
	return changed
}

func (h *health) limited(told time.Duration, fresh bool, now time.Time) bool {
	switch {
	case fresh && told > 0:
		h.cool(WhyRateLimited, now.Add(told))
	case fresh:
		h.cool(WhyRateLimited, now.Add(h.backOff(limitedBase, limitedMost)))
	case h.state == Cooling && h.until.Before(now.Add(told)):
		h.cool(WhyRateLimited, now.Add(told))
	default:
		return false
	}
	return true
}

func (h *health) quarantine(why Why, fresh bool) bool {
	if h.state == Healthy && !fresh {
		return false // it was made healthy since
	}
	*h = health{state: Quarantined, why: why}
	return true
}

// fail is a strike; of a trial it is the end.
func (h *health) fail(now time.Time) bool {
	copy(h.strikes[1:], h.strikes[:])
	h.strikes[0] = now
	first := h.strikes[maxStrikes-1]
	if h.state == Healthy && (first.IsZero() || now.Sub(first) > strikeWindow) {
		return false
	}
	h.cool(WhyFailing, now.Add(h.backOff(failingBase, maxCooling)))
	return true
}

func (h *health) cool(why Why, until time.Time) {
	h.state, h.why, h.until = Cooling, why, until
}

// backOff is how long to cool, and doubles it for the next time.
func (h *health) backOff(base, most time.Duration) time.Duration {
	d := min(base<<h.level, most)
	h.level = min(h.level+1, maxLevel)
	return d
}

// excuse takes the strike of that time back, and what it has brought about if
// nothing has happened since.
func (h *health) excuse(strike time.Time, trial, fresh bool, now time.Time) bool {
	i := slices.Index(h.strikes[:], strike)
	if i < 0 {
		return false // a success has wiped it away
	}
	copy(h.strikes[i:], h.strikes[i+1:])
	h.strikes[maxStrikes-1] = time.Time{}
	if !fresh || h.state != Cooling || h.why != WhyFailing {
		return false
	}
	h.level = max(h.level-1, 0)
	h.cool(WhyExcused, now) // the next trial may begin
	if !trial {
		h.state, h.until = Healthy, time.Time{}
	}
	return true
}
