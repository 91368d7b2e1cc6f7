package redisstore

import (
	"sync"
	"time"
)

// offsetLife is how long a sample of the offset is used, at most twice as long;
// clocks drift apart by less than a millisecond meanwhile.
const offsetLife = 10 * time.Second

// offset estimates by how much the server's time is ahead of this process's
// monotonic one: the least that it can be. A deadline that is converted with it
// is never later than the true one.
type offset struct {
	start time.Time

	mu       sync.Mutex
	known    bool
	since    time.Time // when recent was begun
	recent   time.Duration
	previous time.Duration // of the life before; not above recent is no use
}

func newOffset() *offset { return &offset{start: time.Now()} }

// learn takes a sample: the server's time was read between two moments here.
func (o *offset) learn(server time.Duration, sent, received time.Time) {
	least, most := server-received.Sub(o.start), server-sent.Sub(o.start)
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case !o.known || most < max(o.recent, o.previous):
		// The first, or of another server, whose clock is behind the last one's.
		o.known, o.since, o.recent, o.previous = true, received, least, least
	case received.Sub(o.since) > offsetLife:
		o.since, o.recent, o.previous = received, least, o.recent
	default:
		o.recent = max(o.recent, least)
	}
}

// server answers the server's time at a moment, or before it, and whether
// anything is known of it.
func (o *offset) server(at time.Time) (time.Duration, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return at.Sub(o.start) + max(o.recent, o.previous), o.known
}
