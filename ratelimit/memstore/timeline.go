package memstore

import (
	"sync"
	"sync/atomic"
	"time"
)

// tick is how far timeline.last may lag behind the latest time told. It keeps
// processors from writing to one word on every call.
const tick = time.Millisecond

// timeline tells store time, which never goes backward by more than a tick.
type timeline struct {
	clock func() time.Time
	start time.Time     // the first reading
	base  time.Duration // start, since the Unix epoch

	mu   sync.Mutex   // serializes changes of skew
	skew atomic.Int64 // by how many ns the clock has been set back in all
	last atomic.Int64 // store time in ns that was told already
}

func newTimeline(clock func() time.Time) *timeline {
	start := clock()
	return &timeline{clock: clock, start: start, base: time.Duration(start.UnixNano())}
}

// now reads the clock. It loads last before, so that a reading below it cannot
// be one that was merely overtaken by another goroutine's.
func (t *timeline) now() time.Duration {
	skew, last := t.skew.Load(), t.last.Load()
	now := int64(t.since(t.clock())) + skew
	if now < last {
		return t.setBack()
	}
	if now > last+int64(tick) {
		t.last.CompareAndSwap(last, now)
	}
	return time.Duration(now)
}

// at is the store time of a reading of the clock.
func (t *timeline) at(reading time.Time) time.Duration {
	return t.since(reading) + time.Duration(t.skew.Load())
}

// setBack makes time go on from the last one told.
func (t *timeline) setBack() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := t.last.Load()
	now := int64(t.since(t.clock())) + t.skew.Load()
	if now < last {
		t.skew.Add(last - now)
		now = last
	}
	return time.Duration(now)
}

// since subtracts monotonic readings where the clock has them.
func (t *timeline) since(reading time.Time) time.Duration {
	return t.base + reading.Sub(t.start)
}
