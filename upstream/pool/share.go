package pool

import (
	"context"
	"time"
)

// Share is what replicas tell each other through. Its failures are told to
// Options.ShareFailed, and what did not get through is sent again later.
type Share interface {
	// Publish makes the parts of an entry known, as the next version. It answers
	// that, or 0 if there is a state that is worse than e's and newer than
	// e.Version, which then stays; Disabled is taken all the same.
	Publish(ctx context.Context, upstream string, e Entry) (version int64, err error)
	// Poll answers the entries that have changed after the version since, and the
	// newest version of all. If that is below since, the share has lost what it
	// knew, and begun anew; then, as with a since of 0, all entries are answered.
	Poll(ctx context.Context, upstream string, since int64) (entries []Entry, version int64, err error)
}

// Parts are what of an entry is published.
type Parts uint8

// The parts of an entry. What is not published stays as it is shared.
const (
	PartState Parts = 1 << iota // State, Why, Remaining, Level
	PartHand                    // Disabled
)

// Entry is what is shared of a key.
type Entry struct {
	KeyID     string
	State     State // not Disabled
	Why       Why
	Remaining time.Duration // Cooling: how much of it is left
	Level     int           // see health
	Disabled  bool
	Version   int64 // at which the state was published; in Publish, the last such that is known
	Parts     Parts // in Publish
}

// same tells whether an entry says what is known already, but for the time that a
// message takes.
func (h *health) same(e Entry, now time.Time) bool {
	if h.state != e.State {
		return false
	}
	d := h.until.Sub(now) - e.Remaining
	return h.state != Cooling || d.Abs() < time.Second
}

// unshared are the keys of which something is still to be published.
func (p *Pool) unshared() []*slot {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []*slot
	for _, s := range p.slots {
		if s.unshared != 0 {
			list = append(list, s)
		}
	}
	return list
}

// take makes the entry to publish of a key, which then counts as published.
func (p *Pool) take(s *slot) Entry {
	now := p.opts.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	e := Entry{
		KeyID: s.key.ID, State: s.state, Why: s.why, Level: s.level, Disabled: s.disabled,
		Version: s.version, Parts: s.unshared,
	}
	if s.state == Cooling {
		e.Remaining = max(0, s.until.Sub(now))
	}
	s.unshared = 0
	return e
}

// published notes what became of an entry.
func (p *Pool) published(s *slot, e Entry, version int64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.newest = max(p.newest, version)
	switch {
	case err != nil:
		s.unshared |= e.Parts
	case version == 0:
		p.again = true // there is worse news, which may have been read and passed over
	case e.Parts&PartState != 0:
		s.version = version
	}
}

// since is the version after which to poll.
func (p *Pool) since() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.again {
		p.again = false
		return 0
	}
	return p.version
}

// readAgain has all of the share read by the next poll.
func (p *Pool) readAgain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.again = true
}

// adopt takes over what others have published.
func (p *Pool) adopt(entries []Entry, version int64) {
	now := p.opts.Now()
	p.mu.Lock()
	defer p.unlock()
	if version < p.newest {
		p.forgotten()
	}
	p.version, p.newest = version, version
	for _, e := range entries {
		if s := p.find(e.KeyID); s != nil {
			p.adoptHand(s, e)
			p.adoptState(s, e, now)
		}
	}
}

// forgotten has all that is not as in the beginning published once more.
func (p *Pool) forgotten() {
	for _, s := range p.slots {
		s.version = 0
		if s.state != Healthy || s.disabled {
			s.unshared = PartState | PartHand
		}
	}
	p.nudge()
}

// adoptHand takes over whether a key is disabled, unless that has changed here.
func (p *Pool) adoptHand(s *slot, e Entry) {
	if s.unshared&PartHand != 0 || e.Disabled == s.disabled {
		return
	}
	before := s.shown()
	s.disabled = e.Disabled
	p.tell(s, before, WhyOperator, true)
}

// adoptState takes over the state, unless it has changed here: then which of them
// holds is decided when that is published.
func (p *Pool) adoptState(s *slot, e Entry, now time.Time) {
	if s.unshared&PartState != 0 || e.Version <= s.version || e.State >= Disabled {
		return
	}
	s.version = e.Version
	level := min(max(e.Level, 0), maxLevel)
	if s.same(e, now) {
		s.level = level
		return
	}
	before := s.shown()
	s.health = health{state: e.State, why: e.Why, level: level}
	if e.State == Cooling {
		s.until = now.Add(min(max(e.Remaining, 0), maxCooling))
	}
	p.moved(s, now)
	p.tell(s, before, s.why, true)
}
