package ratelimit

import (
	"fmt"
	"time"
	"unique"
)

// MaxAmount bounds limits, costs and sums: the largest integer that a store
// which computes in floating point (Redis' Lua) still holds exactly.
const MaxAmount = 1<<53 - 1

// MaxWindow is the longest window of a limit.
const MaxWindow = 366 * 24 * time.Hour

// resolution is the finest step of a window. Stores whose clock ticks in
// milliseconds then agree with those whose clock is finer.
const resolution = time.Millisecond

// Unit is what a limit counts.
type Unit uint8

// The units. All but Concurrency are counted over a window.
const (
	Requests Unit = iota
	Tokens
	InputTokens
	OutputTokens
	Concurrency
)

// String answers the unit's name in the configuration.
func (u Unit) String() string {
	switch u {
	case Requests:
		return "requests"
	case Tokens:
		return "tokens"
	case InputTokens:
		return "input_tokens"
	case OutputTokens:
		return "output_tokens"
	case Concurrency:
		return "concurrency"
	}
	return fmt.Sprintf("unit(%d)", uint8(u))
}

// LimitID tells limits apart in a store. It is comparable and costs a pointer.
type LimitID struct{ text unique.Handle[string] }

// String answers the text that the ID was made of, such as
// "key-tpm/tokens/1m0s/5s", or "" for the zero ID.
func (id LimitID) String() string {
	if id == (LimitID{}) {
		return ""
	}
	return id.text.Value()
}

// Limit is one rule: at most Max of Unit in any Window, or in each period of a
// Calendar. It is immutable once built, and shared by all requests; New builds
// it.
type Limit struct {
	Name     string        // as configured; never empty
	Unit     Unit          // what is counted
	Max      int64         // in 1..MaxAmount
	Window   time.Duration // the sliding window; 0 for Concurrency; the nominal period of a Calendar
	Calendar Calendar      // the period that the limit holds for, if it does not slide
	Shadow   bool          // counts and tells, but refuses nothing

	step     time.Duration  // length of a bucket; 0 for Concurrency and Calendar
	buckets  int            // how many make up the window
	location *time.Location // of Calendar
	id       LimitID
	hash     uint64 // of id, with one bit set
}

// ID identifies what the limit counts: name, unit, window and step, or calendar
// and time zone. Max is no part of it, so that raising a limit acts at once and
// keeps the usage; neither is Shadow, so that a limit which was tried out is in
// force with what it has counted.
func (l *Limit) ID() LimitID { return l.id }

// Step is the length of one bucket of the window; 0 for Concurrency and for a
// Calendar, whose bucket is its Period.
func (l *Limit) Step() time.Duration { return l.step }

// Buckets is how many buckets make up the window. One more is counted, so that
// a charge counts for at most Buckets+1 steps, and at least for the window. It
// is 0 for Concurrency and for a Calendar, whose one bucket is exact.
func (l *Limit) Buckets() int { return l.buckets }

// Span names what the limit holds for: a window, as in "1m0s", a calendar
// period, as in "day", or "" for Concurrency.
func (l *Limit) Span() string {
	switch {
	case l.Unit == Concurrency:
		return ""
	case l.Calendar != NoCalendar:
		return l.Calendar.String()
	}
	return l.Window.String()
}

// String answers the limit as in "key-tpm: 100000 tokens in 1m0s".
func (l *Limit) String() string {
	if l.Unit == Concurrency {
		return fmt.Sprintf("%s: %d concurrency", l.Name, l.Max)
	}
	return fmt.Sprintf("%s: %d %s in %s", l.Name, l.Max, l.Unit, l.Span())
}
