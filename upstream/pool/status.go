package pool

import (
	"time"
)

// stats are a slot's counters.
type stats struct {
	inFlight int
	requests int64 // attempts that began
	ended    [classes]int64
	tokens   int64
	last     Failure
}

// Failure is the last one of a key.
type Failure struct {
	Class  Class     `json:"class"`
	Status int       `json:"status"` // HTTP; 0 if there was none
	At     time.Time `json:"at"`
}

// count notes how an attempt ended.
func (s *stats) count(c Class, status int, now time.Time) {
	s.ended[c]++
	if c.Failed() {
		s.last = Failure{c, status, now}
	}
}

// recount notes that an attempt has ended in another class than was thought.
func (s *stats) recount(from, to Class) {
	s.ended[from]--
	s.ended[to]++
}

// KeyStatus is what operators see of a key.
type KeyStatus struct {
	ID          string          `json:"id"`
	Label       string          `json:"label"`
	Last4       string          `json:"last4,omitempty"` // of the secret
	Weight      int             `json:"weight"`
	State       State           `json:"state"`
	Why         Why             `json:"why,omitempty"`
	Until       time.Time       `json:"until,omitzero"` // Cooling: when its trial may begin; Quarantined: the next probe, while Run runs
	InFlight    int             `json:"in_flight"`
	Requests    int64           `json:"requests"` // attempts, those in flight too
	Successes   int64           `json:"successes"`
	Failures    map[Class]int64 `json:"failures,omitempty"` // how the others ended
	Aborted     int64           `json:"aborted,omitempty"`  // of the attempts: their client left
	SuccessRate float64         `json:"success_rate"`       // successes, as a part of [KeyStatus.Ended]; 1 at first
	Tokens      int64           `json:"tokens"`
	LastFailure *Failure        `json:"last_failure,omitempty"`
}

// Ended is how many attempts have ended, without those whose client left.
func (s *KeyStatus) Ended() int64 {
	n := s.Successes
	for _, failures := range s.Failures {
		n += failures
	}
	return n
}

// Status tells of all keys, in the order of the file.
func (p *Pool) Status() []KeyStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]KeyStatus, 0, len(p.slots))
	for _, s := range p.slots {
		list = append(list, s.status())
	}
	return list
}

// Count is how many keys are in each state.
func (p *Pool) Count() (n [states]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.slots {
		n[s.shown()]++
	}
	return n
}

func (s *slot) status() KeyStatus {
	st := KeyStatus{
		ID: s.key.ID, Label: s.key.Label, Last4: last4(s.key.Secret), Weight: s.key.Weight,
		State: s.shown(), Why: s.why,
		InFlight: s.inFlight, Requests: s.requests, Successes: s.ended[OK], Aborted: s.ended[Aborted], Tokens: s.tokens, SuccessRate: 1,
	}
	switch st.State {
	case Cooling:
		st.Until = s.until
	case Quarantined:
		st.Until = s.probe
	case Disabled:
		st.Why = WhyOperator
	default:
	}
	for c, n := range s.ended {
		if c := Class(c); n > 0 && c != OK && c != Aborted {
			if st.Failures == nil {
				st.Failures = map[Class]int64{}
			}
			st.Failures[c] = n
		}
	}
	if ended := st.Ended(); ended > 0 {
		st.SuccessRate = float64(st.Successes) / float64(ended)
	}
	if s.last.Class != Aborted {
		last := s.last
		st.LastFailure = &last
	}
	return st
}
