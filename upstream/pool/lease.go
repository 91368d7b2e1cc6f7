package pool

import "time"

// Lease is one attempt with a key. All of its methods may be called at any time.
type Lease struct {
	pool *Pool
	slot *slot
	key  *Key

	// Guarded by the pool's mutex.
	epoch  uint64 // of the slot when the attempt began
	strike time.Time
	status int32 // that was learnt with the class
	learnt Class // Aborted: nothing
	done   bool

	trial bool // of a cooling key
}

// Key is the key as it was when the attempt began.
func (l *Lease) Key() Key { return *l.key }

// Trial tells whether the attempt decides for a key that has cooled.
func (l *Lease) Trial() bool { return l.trial }

// Learn tells how the attempt goes, while it stays in flight: when response headers
// have come. It has an effect once, before Done.
func (l *Lease) Learn(o Outcome) {
	now := l.pool.opts.Now()
	l.pool.mu.Lock()
	defer l.pool.unlock()
	if !l.done && l.learnt == Aborted {
		l.take(o, now)
	}
}

// Done ends the attempt. It has an effect once. What Learn was told of a failure
// stands; an answer that began well may still fail.
func (l *Lease) Done(o Outcome) {
	now := l.pool.opts.Now()
	l.pool.mu.Lock()
	defer l.pool.unlock()
	if l.done {
		return
	}
	l.done = true
	if l.learnt == Aborted || l.learnt == OK {
		l.take(o, now)
	}
	s := l.slot
	if s.trial == l {
		s.trial = nil
	}
	s.inFlight--
	s.tokens += o.Tokens
	if l.learnt == OK && o.Class == Aborted {
		l.learnt = Aborted // the client left in the middle of the answer
	}
	s.count(l.learnt, int(l.status), now)
}

// Return gives the key back unused, as if it had not been picked.
func (l *Lease) Return() {
	l.pool.mu.Lock()
	defer l.pool.unlock()
	if l.done {
		return
	}
	l.done = true
	s := l.slot
	if s.trial == l {
		s.trial = nil
	}
	s.inFlight--
	s.requests--
}

// take has the key's health learn. What it does to a state itself is not news to
// the attempt.
func (l *Lease) take(o Outcome, now time.Time) {
	if o.Class == Aborted || o.Class >= classes {
		return
	}
	l.learnt, l.status = o.Class, int32(o.Status)
	s := l.slot
	before, fresh := s.shown(), l.epoch == s.epoch
	changed := s.learn(o, fresh, now)
	if changed {
		l.pool.changed(s, before, now)
	}
	if fresh {
		l.epoch = s.epoch
		if o.Class.strikes() {
			l.strike = now
		}
	}
}

// Excuse takes back the strike of an attempt that ended in a 5xx: another key got
// the same, and so it is the upstream's fault ([UpstreamFault] of that other).
func (l *Lease) Excuse() {
	now := l.pool.opts.Now()
	l.pool.mu.Lock()
	defer l.pool.unlock()
	s := l.slot
	if !l.learnt.strikes() {
		return
	}
	before := s.shown()
	if !l.strike.IsZero() && s.excuse(l.strike, l.trial, l.epoch == s.epoch, now) {
		l.pool.changed(s, before, now)
	}
	if l.done {
		s.recount(l.learnt, UpstreamFault)
	}
	l.learnt = UpstreamFault
}

// AddTokens counts tokens for statistics, also of an attempt that is done.
func (l *Lease) AddTokens(n int64) {
	l.pool.mu.Lock()
	defer l.pool.mu.Unlock()
	l.slot.tokens += n
}
