package failover

import (
	"sync"
	"time"
)

const (
	inARow       = 5           // failures that open the breaker
	sample       = 20          // calls within sampleWindow of which half may not fail
	sampleWindow = time.Second // see sample
)

// breaker tells whether the store may be called.
type breaker struct {
	mu       sync.Mutex
	open     bool
	opened   chan struct{} // closed when it opens
	since    time.Time     // of the present state
	row      int           // failures in a row
	begin    time.Time     // of the sample
	calls    int           // in the sample
	failures int           // in the sample
}

// allows tells whether calls are made at all.
func (b *breaker) allows() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.open
}

// whenOpen is closed when the breaker opens, so that nobody waits any longer.
func (b *breaker) whenOpen() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.opened
}

// note counts a call, and tells whether it opened the breaker.
func (b *breaker) note(now time.Time, ok bool) (opened bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open {
		return false // a call that began before
	}
	if now.Sub(b.begin) > sampleWindow {
		b.begin, b.calls, b.failures = now, 0, 0
	}
	b.calls++
	if ok {
		b.row = 0
		return false
	}
	b.row++
	b.failures++
	if b.row < inARow && (b.calls < sample || 2*b.failures < b.calls) {
		return false
	}
	b.open, b.since = true, now
	close(b.opened)
	return true
}

// close lets calls through again.
func (b *breaker) close(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open {
		b.opened = make(chan struct{})
	}
	b.open, b.since, b.row = false, now, 0
	b.begin, b.calls, b.failures = now, 0, 0
}
