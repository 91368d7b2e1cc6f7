package gateway

import (
	"math"
	"sync"
	"time"

	"github.com/weir-gateway/weir/openai"
)

const (
	// sizedEnough is how many streams must have been counted before their size tells
	// how many tokens another one had.
	sizedEnough = 8
	// sizedServers bounds what is learned about.
	sizedServers = 1000
)

// sizes learns how much of the wire a token takes in event streams: what is known of a
// stream that broke off and was read by nobody but Envoy.
type sizes struct {
	mu     sync.Mutex
	byKind map[kind]*sizeTally // guarded by mu
}

// kind is what streams of the same shape have in common.
type kind struct {
	upstream, model string
	endpoint        openai.Endpoint
}

// sizeTally is a least-squares fit of bytes by tokens, in which older streams count
// less, and the time that a token took.
type sizeTally struct {
	seen                    int
	n, t, b, tt, tb         float64 // sums of 1, tokens, bytes and their products
	seconds, tokensInSecond float64
}

// observe notes a stream that was counted: its tokens, the bytes of its events up to
// the one that said it was finished, and how long they took.
func (s *sizes) observe(k kind, tokens, bytes int64, took time.Duration) {
	if tokens <= 0 || bytes <= 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	tally := s.byKind[k]
	if tally == nil {
		if s.byKind == nil {
			s.byKind = map[kind]*sizeTally{}
		}
		for other := range s.byKind { // any one leaves
			if len(s.byKind) < sizedServers {
				break
			}
			delete(s.byKind, other)
		}
		tally = &sizeTally{}
		s.byKind[k] = tally
	}
	tally.add(float64(tokens), float64(bytes), took.Seconds())
}

func (a *sizeTally) add(tokens, bytes, seconds float64) {
	a.seen++
	for _, sum := range []*float64{&a.n, &a.t, &a.b, &a.tt, &a.tb, &a.seconds, &a.tokensInSecond} {
		*sum *= memory
	}
	a.n++
	a.t += tokens
	a.b += bytes
	a.tt += tokens * tokens
	a.tb += tokens * bytes
	a.seconds += seconds
	a.tokensInSecond += tokens
}

// known tells whether enough streams of a kind were seen.
func (s *sizes) known(k kind) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	tally := s.byKind[k]
	return tally != nil && tally.seen >= sizedEnough
}

// tokens is how many tokens a stream had of which so many bytes passed.
func (s *sizes) tokens(k kind, bytes int64) int64 {
	if bytes <= 0 {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	tally := s.byKind[k]
	if tally == nil {
		return tokensOf(bytes)
	}
	around, each := tally.fit()
	return max(1, int64(math.Round((float64(bytes)-around)/each)))
}

// fit is how many bytes a stream has, around and for each token.
func (a *sizeTally) fit() (around, each float64) {
	spread := a.n*a.tt - a.t*a.t
	if spread > a.n*a.tt/100 {
		each = (a.n*a.tb - a.t*a.b) / spread
		around = (a.b - each*a.t) / a.n
	}
	if each <= 0 || around < 0 { // streams of one length tell nothing of what is around
		return 0, a.b / a.t
	}
	return around, each
}

// tokensIn is how many tokens a stream makes in that time.
func (s *sizes) tokensIn(k kind, d time.Duration) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	tally := s.byKind[k]
	if tally == nil || tally.seconds <= 0 || d <= 0 {
		return 1
	}
	return max(1, int64(tally.tokensInSecond/tally.seconds*d.Seconds()))
}
