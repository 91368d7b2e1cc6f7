package ratelimit

import (
	"fmt"
	"hash/fnv"
	"math/bits"
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

// Limit is one rule: at most Max of Unit in any Window. It is immutable once
// built, and shared by all requests; NewLimit and NewBurstLimit build it.
type Limit struct {
	Name   string        // as configured; never empty
	Unit   Unit          // what is counted
	Max    int64         // in 1..MaxAmount
	Window time.Duration // the sliding window; 0 for Concurrency

	step    time.Duration // length of a bucket; 0 for Concurrency
	buckets int           // how many make up the window
	id      LimitID
	hash    uint64 // of id, with one bit set
}

// NewLimit builds the limit of limit units in any window, or of limit leases
// at a time for Concurrency, whose window must be 0. Windows are whole
// milliseconds, up to MaxWindow.
func NewLimit(name string, unit Unit, limit int64, window time.Duration) (*Limit, error) {
	switch {
	case name == "":
		return nil, fmt.Errorf("limit of %d %s: want a name", limit, unit)
	case unit > Concurrency:
		return nil, fmt.Errorf("limit %q: unknown %s", name, unit)
	case limit < 1 || limit > MaxAmount:
		return nil, fmt.Errorf("limit %q: %d %s: want 1 to %d", name, limit, unit, int64(MaxAmount))
	case unit == Concurrency && window != 0:
		return nil, fmt.Errorf("limit %q: concurrency over a window of %s: want no window", name, window)
	case unit != Concurrency && (window < resolution || window > MaxWindow || window%resolution != 0):
		return nil, fmt.Errorf("limit %q: window of %s: want whole milliseconds, at most %s", name, window, MaxWindow)
	}
	step, n := buckets(window)
	id := fmt.Sprintf("%s/%s/%s/%s", name, unit, window, step)
	return &Limit{
		Name: name, Unit: unit, Max: limit, Window: window,
		step: step, buckets: n, id: LimitID{unique.Make(id)}, hash: oneBit(id),
	}, nil
}

// NewBurstLimit builds the limit whose rate is limit units per window, and
// which lets burst ≥ limit of them come at once: at most burst in any window of
// window*burst/limit, rounded up to milliseconds. "20/s, burst 40" is 40 in any
// 2 s. It is exact and slides, unlike a token bucket, whose bound refunds break.
func NewBurstLimit(name string, unit Unit, limit int64, window time.Duration, burst int64) (*Limit, error) {
	if unit == Concurrency {
		return nil, fmt.Errorf("limit %q: burst of %d: concurrency has no rate to burst over", name, burst)
	}
	if _, err := NewLimit(name, unit, limit, window); err != nil {
		return nil, err
	}
	if burst < limit {
		return nil, fmt.Errorf("limit %q: burst of %d: want at least the limit, %d", name, burst, limit)
	}
	stretched, ok := stretch(window, burst, limit)
	if !ok {
		return nil, fmt.Errorf("limit %q: burst of %d at %d per %s: takes longer than %s to recover",
			name, burst, limit, window, MaxWindow)
	}
	return NewLimit(name, unit, burst, stretched)
}

// ID identifies what the limit counts: name, unit, window and step. Max is no
// part of it, so that raising a limit acts at once and keeps the usage.
func (l *Limit) ID() LimitID { return l.id }

// Step is the length of one bucket of the window; 0 for Concurrency.
func (l *Limit) Step() time.Duration { return l.step }

// Buckets is how many buckets make up the window. One more is counted, so that
// a charge counts for at most Buckets+1 steps, and at least for the window.
func (l *Limit) Buckets() int { return l.buckets }

// String answers the limit as in "key-tpm: 100000 tokens in 1m0s".
func (l *Limit) String() string {
	if l.Unit == Concurrency {
		return fmt.Sprintf("%s: %d concurrency", l.Name, l.Max)
	}
	return fmt.Sprintf("%s: %d %s in %s", l.Name, l.Max, l.Unit, l.Window)
}

// buckets cuts a window: 1 s into 10 of 100 ms, a minute into 12 of 5 s, an
// hour into 12 of 5 min. Steps are rounded up to the resolution, and there are
// as many as cover the window.
func buckets(window time.Duration) (step time.Duration, n int) {
	if window == 0 {
		return 0, 0
	}
	n = 12
	if window < time.Minute {
		n = 10
	}
	step = ceil(window / time.Duration(n))
	return step, int((window + step - 1) / step)
}

// oneBit hashes text to one of 64 bits: what has another bit is another text.
func oneBit(text string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text)) // never fails
	return 1 << (h.Sum64() % 64)
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
