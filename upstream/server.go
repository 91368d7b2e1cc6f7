package upstream

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/upstream/pool"
)

// downAfter is how many failures in a row, of requests or of checks, make a server
// one that does not answer.
const downAfter = 3

// Server is an upstream at run time.
type Server struct {
	config.Upstream
	Credential config.Secret // of one without a pool; "" sends none
	Pool       *pool.Pool    // nil: there is one key at most

	down    atomic.Bool
	unheard atomic.Bool                    // weir's own question had no answer
	found   atomic.Pointer[[]config.Model] // what it lists itself; nil before it has

	mu       sync.Mutex    // serialises changes of failures and down; guards stale
	failures atomic.Int64  // in a row
	changed  func(*Server) // told when Down changes
	stale    error         // why the newest state of the pool's file is not in force
}

// Status is what can be had of a server, in a word.
type Status string

// What can be had of a server.
const (
	StatusOK      Status = "ok"
	StatusResting Status = "resting" // no key can be used now, but one can soon
	StatusNoKeys  Status = "no_keys" // no key can be used
	StatusDown    Status = "down"    // it does not answer
)

// Status tells what can be had of the server. What is not ok can come back without any
// request: a server that is down is checked, keys are probed, and those that rest may be
// used again in a while.
func (s *Server) Status() Status {
	if s.Down() {
		return StatusDown
	}
	switch none := s.noKey(); {
	case none == nil:
		return StatusOK
	case none.Cooling > 0:
		return StatusResting
	default:
		return StatusNoKeys
	}
}

// Stale is why the newest state of the file of the pool's keys is not in force, nil if
// it is, or if there is none.
func (s *Server) Stale() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stale
}

func (s *Server) setStale(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale = err
}

// newServer reads the credentials of an upstream.
func newServer(u config.Upstream) (*Server, error) {
	s := &Server{Upstream: u, changed: func(*Server) {}}
	var err error
	s.Credential, err = credential(u)
	return s, err
}

// credential is the secret of an upstream, from its file if it has one.
func credential(u config.Upstream) (config.Secret, error) {
	if u.KeyFile == "" {
		return u.Key, nil
	}
	text, err := os.ReadFile(u.KeyFile)
	if err != nil {
		return "", fmt.Errorf("read key_file: %w", err)
	}
	text = bytes.TrimSpace(text)
	if len(text) == 0 || bytes.ContainsAny(text, " \t\r\n") {
		return "", fmt.Errorf("key_file %s must hold one credential and nothing else", u.KeyFile)
	}
	return config.Secret(text), nil
}

// Down tells whether the server does not answer. It may be asked all the same,
// when nothing else is left.
func (s *Server) Down() bool { return s.down.Load() }

// Lost tells whether requests have no hope here: the server is down and weir's own question
// has found it so, or an operator has disabled all of its keys. What clients can bring
// about does not count: requests that fail, and keys that are refused, for what is in them.
func (s *Server) Lost() bool {
	if s.Down() && s.unheard.Load() {
		return true
	}
	none := s.noKey()
	return none != nil && none.Cooling == 0 && none.Quarantined == 0
}

// Checked notes whether the server answered weir's own question.
func (s *Server) Checked(answered bool) {
	s.unheard.Store(!answered)
	s.Note(answered)
}

// Note counts whether the server answered a request.
func (s *Server) Note(answered bool) {
	if answered && s.failures.Load() == 0 {
		return // as almost always
	}
	s.mu.Lock()
	before := s.down.Load()
	if answered {
		s.failures.Store(0)
	} else {
		s.failures.Add(1)
	}
	now := s.failures.Load() >= downAfter
	s.down.Store(now)
	s.mu.Unlock()
	if before != now {
		s.changed(s)
	}
}

// Usable tells whether there is a key for an attempt.
func (s *Server) Usable() bool { return s.Pool == nil || s.Pool.Usable() > 0 }

// noKey is why there is none, nil if there is one.
func (s *Server) noKey() *pool.NoKeyError {
	if s.Pool == nil {
		return nil
	}
	return s.Pool.Unusable()
}

// offers are the models that the server brings with it.
func (s *Server) offers() []config.Model {
	switch s.Offer {
	case config.Catalogue:
		return catalogue
	case config.Discover:
		return s.listed()
	case config.Listed:
	}
	return nil
}

// listed are the models that the server lists itself.
func (s *Server) listed() []config.Model {
	if list := s.found.Load(); list != nil {
		return *list
	}
	return nil
}
