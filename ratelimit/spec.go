package ratelimit

import (
	"fmt"
	"hash/fnv"
	"math/bits"
	"time"
	"unique"
)

// Precision is how finely a window is cut. A charge counts for up to one bucket
// longer than the window: a twelfth of it, or a sixtieth.
type Precision uint8

// The precisions.
const (
	NormalPrecision Precision = iota
	HighPrecision             // 60 buckets: a minute in seconds, an hour in minutes
)

// Spec is what a limit says. New makes the limit of it.
type Spec struct {
	Name string // as configured; never empty
	Unit Unit
	Max  int64 // how many of the unit, in 1..MaxAmount

	// Window is in how long; whole milliseconds, up to MaxWindow. It is 0 for
	// Concurrency, and where there is a Calendar.
	Window time.Duration
	// Burst ≥ Max lets so many come at once, at the rate of Max per Window: at
	// most Burst in any window of Window*Burst/Max, rounded up to milliseconds.
	// "20/s, burst 40" is 40 in any 2 s. It is exact and slides, unlike a token
	// bucket, whose bound refunds break. 0 is none.
	Burst int64
	// Precision is how finely the window is cut.
	Precision Precision

	// Calendar is the period that the limit holds for, in place of a window.
	Calendar Calendar
	// Location is the calendar's time zone; UTC by default. time.Local is not
	// allowed: replicas and stores must agree on it by name.
	Location *time.Location

	// Shadow limits count and tell, in Decision.Shadowed, what they would have
	// refused; they refuse nothing.
	Shadow bool
}

// New makes the limit of a Spec, or tells what is wrong with it.
func New(s Spec) (*Limit, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if s.Burst > 0 {
		stretched, ok := stretch(s.Window, s.Burst, s.Max)
		if !ok {
			return nil, fmt.Errorf("limit %q: burst of %d at %d per %s: takes longer than %s to recover",
				s.Name, s.Burst, s.Max, s.Window, MaxWindow)
		}
		s.Max, s.Window = s.Burst, stretched
	}
	l := &Limit{Name: s.Name, Unit: s.Unit, Max: s.Max, Window: s.Window, Calendar: s.Calendar, Shadow: s.Shadow}
	var id string
	if s.Calendar != NoCalendar {
		l.location = s.Location
		if l.location == nil {
			l.location = time.UTC
		}
		l.Window = s.Calendar.nominal()
		id = fmt.Sprintf("%s/%s/%s/%s", s.Name, s.Unit, s.Calendar, l.location)
	} else {
		l.step, l.buckets = buckets(s.Window, s.Precision)
		id = fmt.Sprintf("%s/%s/%s/%s", s.Name, s.Unit, s.Window, l.step)
	}
	l.id, l.hash = LimitID{unique.Make(id)}, oneBit(id)
	return l, nil
}

// NewLimit builds the limit of limit units in any window, or of limit leases
// at a time for Concurrency, whose window must be 0; see Spec.
func NewLimit(name string, unit Unit, limit int64, window time.Duration) (*Limit, error) {
	return New(Spec{Name: name, Unit: unit, Max: limit, Window: window})
}

// NewBurstLimit builds the limit whose rate is limit units per window, and
// which lets burst ≥ limit of them come at once; see Spec.
func NewBurstLimit(name string, unit Unit, limit int64, window time.Duration, burst int64) (*Limit, error) {
	if burst < 1 {
		return nil, fmt.Errorf("limit %q: burst of %d: want at least the limit, %d", name, burst, limit)
	}
	return New(Spec{Name: name, Unit: unit, Max: limit, Window: window, Burst: burst})
}

func (s *Spec) check() error {
	switch {
	case s.Name == "":
		return fmt.Errorf("limit of %d %s: want a name", s.Max, s.Unit)
	case s.Unit > Concurrency:
		return fmt.Errorf("limit %q: unknown %s", s.Name, s.Unit)
	case s.Max < 1 || s.Max > MaxAmount:
		return fmt.Errorf("limit %q: %d %s: want 1 to %d", s.Name, s.Max, s.Unit, int64(MaxAmount))
	case s.Precision > HighPrecision:
		return fmt.Errorf("limit %q: unknown precision %d", s.Name, s.Precision)
	case s.Unit == Concurrency:
		return s.checkConcurrency()
	case s.Calendar != NoCalendar:
		return s.checkCalendar()
	case s.Window < resolution || s.Window > MaxWindow || s.Window%resolution != 0:
		return fmt.Errorf("limit %q: window of %s: want whole milliseconds, at most %s", s.Name, s.Window, MaxWindow)
	case s.Location != nil:
		return fmt.Errorf("limit %q: time zone %s for a window: only a calendar has one", s.Name, s.Location)
	case s.Burst != 0 && (s.Burst < s.Max || s.Burst > MaxAmount):
		return fmt.Errorf("limit %q: burst of %d: want at least the limit, %d", s.Name, s.Burst, s.Max)
	}
	return nil
}

func (s *Spec) checkConcurrency() error {
	switch {
	case s.Window != 0:
		return fmt.Errorf("limit %q: concurrency over a window of %s: want no window", s.Name, s.Window)
	case s.Calendar != NoCalendar || s.Location != nil:
		return fmt.Errorf("limit %q: concurrency over a calendar: want none", s.Name)
	case s.Burst != 0:
		return fmt.Errorf("limit %q: burst of %d: concurrency has no rate to burst over", s.Name, s.Burst)
	case s.Precision != NormalPrecision:
		return fmt.Errorf("limit %q: precision of concurrency: it has no window to cut", s.Name)
	}
	return nil
}

func (s *Spec) checkCalendar() error {
	switch {
	case s.Calendar > Month:
		return fmt.Errorf("limit %q: unknown calendar %d", s.Name, s.Calendar)
	case s.Window != 0:
		return fmt.Errorf("limit %q: both a calendar %s and a window of %s: want one", s.Name, s.Calendar, s.Window)
	case s.Burst != 0:
		return fmt.Errorf("limit %q: burst of %d: a calendar %s has no rate to burst over", s.Name, s.Burst, s.Calendar)
	case s.Precision != NormalPrecision:
		return fmt.Errorf("limit %q: precision of a calendar %s: it is exact", s.Name, s.Calendar)
	case s.Location == time.Local:
		return fmt.Errorf("limit %q: time zone of this machine: want one with a name, such as Europe/Berlin", s.Name)
	}
	return nil
}

// buckets cuts a window: 1 s into 10 of 100 ms, a minute into 12 of 5 s, an
// hour into 12 of 5 min, or any into 60. Steps are rounded up to the
// resolution, and there are as many as cover the window.
func buckets(window time.Duration, precision Precision) (step time.Duration, n int) {
	switch {
	case window == 0:
		return 0, 0
	case precision == HighPrecision:
		n = 60
	case window < time.Minute:
		n = 10
	default:
		n = 12
	}
	step = ceil(window / time.Duration(n))
	return step, int((window + step - 1) / step)
}

// stretch answers window*burst/limit, rounded up to the resolution, and
// whether that is a window still.
func stretch(window time.Duration, burst, limit int64) (time.Duration, bool) {
	hi, lo := bits.Mul64(uint64(window), uint64(burst))
	if hi >= uint64(limit) {
		return 0, false
	}
	quotient, rest := bits.Div64(hi, lo, uint64(limit))
	if quotient > uint64(MaxWindow) {
		return 0, false
	}
	if rest > 0 {
		quotient++
	}
	stretched := ceil(time.Duration(quotient))
	return stretched, stretched <= MaxWindow
}

// ceil rounds up to the resolution.
func ceil(d time.Duration) time.Duration {
	return (d + resolution - 1) / resolution * resolution
}

// oneBit hashes text to one of 64 bits: what has another bit is another text.
func oneBit(text string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text)) // never fails
	return 1 << (h.Sum64() % 64)
}
