package pool

import (
	"slices"
	"sync"
	"time"
)

// Strategy is how a pool chooses among the keys that can be used.
type Strategy uint8

// The strategies.
const (
	RoundRobin    Strategy = iota // each in its turn
	LeastInFlight                 // the one with the fewest requests in flight
	Weighted                      // each as often as its weight says, well mixed
)

// Options configure a pool.
type Options struct {
	Upstream string // name of the upstream
	Strategy Strategy
	Share    Share            // nil: nothing is shared
	Now      func() time.Time // nil: time.Now

	// Changed is told of each change of a state, one at a time and in their order,
	// by the goroutine of one of them. It must not take long. May be nil.
	Changed func(Change)
	// ShareFailed is told when the share begins to fail, and with nil when it
	// works again. May be nil.
	ShareFailed func(error)
}

// Change is that of a key's state.
type Change struct {
	KeyID, Label string
	From, To     State // the same when a key that cools is to cool longer
	Why          Why
	Until        time.Time // Cooling: when its trial may begin
	Remote       bool      // another replica found it out
}

// Pool is the keys of one upstream. All of its methods may be called at any time.
type Pool struct {
	opts Options
	wake chan struct{} // tells Run that something is unshared

	mu      sync.Mutex
	slots   []*slot // in the order of the file
	next    int     // where the turn is
	version int64   // of the share, up to which it was read
	newest  int64   // version that the share has had
	again   bool    // all of the share is to be read
	changes []Change
	telling bool // somebody hands out changes
}

// slot is a key and all that is known of it, guarded by the pool's mutex.
type slot struct {
	key *Key // replaced as a whole
	health
	disabled bool
	gone     bool   // no longer of the pool
	epoch    uint64 // counts changes of health
	trial    *Lease // of a cooling key, in flight
	probe    time.Time
	current  int // of Weighted: how far it is behind its due

	version  int64 // of the state in the share that is known
	unshared Parts

	stats
}

// New makes a pool of those keys.
func New(opts Options, keys []Key) *Pool {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	p := &Pool{opts: opts, wake: make(chan struct{}, 1)}
	p.Set(keys)
	return p
}

// Set replaces the keys. One that stays, by its secret, keeps its state, its
// counters and what is in flight; but quarantine ends: that is what keys are
// read again for. A key without ID, label or weight is given one; of two keys
// with one ID the first counts.
func (p *Pool) Set(keys []Key) {
	now := p.opts.Now()
	p.mu.Lock()
	defer p.unlock()
	old := make(map[string]*slot, len(p.slots))
	for _, s := range p.slots {
		s.gone, s.current = true, 0
		old[s.key.ID] = s
	}
	p.slots = make([]*slot, 0, len(keys))
	known := make(map[string]bool, len(keys))
	keys = slices.Clone(keys)
	named(keys)
	for _, k := range keys {
		k.complete()
		if known[k.ID] {
			continue
		}
		known[k.ID] = true
		p.slots = append(p.slots, p.place(old[k.ID], &k, now))
	}
	p.next = 0
}

// complete fills in what may be left out.
func (k *Key) complete() {
	if k.ID == "" {
		k.ID = KeyID(k.Secret)
	}
	k.Weight = max(k.Weight, 1)
}

// place puts a key into its old slot, or a new one.
func (p *Pool) place(s *slot, k *Key, now time.Time) *slot {
	if s == nil || s.key.Secret != k.Secret {
		p.again = true // the share may have known the key for long
		return &slot{key: k}
	}
	s.key, s.gone = k, false
	if s.state == Quarantined {
		p.heal(s, WhyReload, now)
	}
	return s
}

// Len is the number of keys.
func (p *Pool) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.slots)
}

// Usable is the number of keys that a request could be given now.
func (p *Pool) Usable() int {
	now := p.opts.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, s := range p.slots {
		if s.usable(now) {
			n++
		}
	}
	return n
}

func (s *slot) usable(now time.Time) bool {
	switch {
	case s.disabled:
		return false
	case s.state == Cooling:
		return s.trial == nil && !now.Before(s.until)
	default:
		return s.state == Healthy
	}
}

// shown is the state with the operator's hand in it.
func (s *slot) shown() State {
	if s.disabled {
		return Disabled
	}
	return s.state
}

// heal makes a key healthy, and tells.
func (p *Pool) heal(s *slot, why Why, now time.Time) {
	if before := s.shown(); s.heal(why) {
		p.changed(s, before, now)
	}
}

// changed notes that health has changed here.
func (p *Pool) changed(s *slot, before State, now time.Time) {
	p.moved(s, now)
	p.publish(s, PartState)
	p.tell(s, before, s.why, false)
}

// moved has everything that was under way count as begun before.
func (p *Pool) moved(s *slot, now time.Time) {
	s.epoch++
	s.trial = nil
	if s.state == Quarantined {
		s.probe = now.Add(jittered(probeEvery))
	}
}

// publish has parts of a key told to other replicas.
func (p *Pool) publish(s *slot, parts Parts) {
	if p.opts.Share != nil {
		s.unshared |= parts
		p.nudge()
	}
}

func (p *Pool) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// tell queues a change, if it shows.
func (p *Pool) tell(s *slot, before State, why Why, remote bool) {
	after := s.shown()
	if p.opts.Changed == nil || s.gone || before == Disabled && after == Disabled {
		return
	}
	c := Change{KeyID: s.key.ID, Label: s.key.Label, From: before, To: after, Why: why, Remote: remote}
	if after == Cooling {
		c.Until = s.until
	}
	p.changes = append(p.changes, c)
}

// unlock is that of the mutex, and hands out changes, unless somebody does.
func (p *Pool) unlock() {
	if len(p.changes) > 0 && !p.telling {
		p.telling = true
		for len(p.changes) > 0 {
			changes := p.changes
			p.changes = nil
			p.mu.Unlock()
			for _, c := range changes {
				p.opts.Changed(c)
			}
			p.mu.Lock()
		}
		p.telling = false
	}
	p.mu.Unlock()
}

// find is the key of an ID, or else of a label.
func (p *Pool) find(name string) *slot {
	var labelled *slot
	for _, s := range p.slots {
		if s.key.ID == name {
			return s
		}
		if s.key.Label == name && labelled == nil {
			labelled = s
		}
	}
	return labelled
}
