package gateway

import (
	"math"
	"sync"
	"time"

	"github.com/weir-gateway/weir/openai"
)

const (
	// sizedEnough is how many streams must have been counted before what passed of
	// another one tells how many tokens it had.
	sizedEnough = 8
	// sizedKinds bounds what is learned about.
	sizedKinds = 1000
)

// sizes learns how many tokens there are in what passes of event streams: what is known
// of a stream that broke off and was read by nobody but Envoy.
type sizes struct {
	mu     sync.Mutex
	byKind tallies[kind, sizeTally] // guarded by mu
}

// kind is what streams of the same shape have in common.
type kind struct {
	upstream, model string
	endpoint        openai.Endpoint
}

// sizeTally fits tokens to pieces of text and to their bytes: where each piece is a
// token the one tells all, where pieces hold several the other. Errors are relative,
// and older streams count less. It knows the speed of all answers too.
type sizeTally struct {
	seen          int
	pp, pt, tt    float64 // sums of products of pieces and bytes of text, each to a token
	p, t          float64 // sums of both
	seconds, made float64 // sums of what answers took, and of the tokens of one choice of each
}

// observe notes an answer that was counted: its tokens, in how many choices, what passed
// of it if it was a stream, and how long the request took.
func (s *sizes) observe(k kind, tokens, choices int64, what Passed, took time.Duration) {
	if tokens <= 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	tally := s.byKind.of(k, sizedKinds)
	tally.seconds = tally.seconds*memory + took.Seconds()
	tally.made = tally.made*memory + float64(tokens)/float64(max(1, choices))
	if what.Pieces > 0 {
		tally.add(float64(what.Pieces)/float64(tokens), float64(what.Text)/float64(tokens))
	}
}

// add takes the pieces and the bytes of text that a token had.
func (a *sizeTally) add(pieces, text float64) {
	a.seen++
	for _, sum := range []*float64{&a.pp, &a.pt, &a.tt, &a.p, &a.t} {
		*sum *= memory
	}
	a.pp += pieces * pieces
	a.pt += pieces * text
	a.tt += text * text
	a.p += pieces
	a.t += text
}

// known tells whether enough streams of a kind were seen.
func (s *sizes) known(k kind) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	tally := s.byKind[k]
	return tally != nil && tally.seen >= sizedEnough
}

// tokens is how many tokens a stream had of which so much was noted, and so many bytes
// have passed.
func (s *sizes) tokens(k kind, noted Passed, bytes int64) int64 {
	switch {
	case bytes <= 0:
		return 0
	case noted.Pieces == 0 || noted.Bytes <= noted.Began || bytes <= noted.Began:
		return 1 // hardly more, or it would have been noted
	}
	// There is as much text in what came after the note as before.
	since := float64(bytes-noted.Began) / float64(noted.Bytes-noted.Began)
	n, _ := s.inText(k, int64(math.Round(since*float64(noted.Pieces))), int64(math.Round(since*float64(noted.Text))))
	return max(1, n)
}

// inText is how many tokens there are in so many pieces of text of so many bytes in all,
// and whether enough streams were seen to tell. If not it is one for each piece.
func (s *sizes) inText(k kind, pieces, bytes int64) (tokens int64, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tally := s.byKind[k]
	if tally == nil || tally.seen < sizedEnough {
		return pieces, false
	}
	perPiece, perByte := tally.fit()
	return int64(math.Round(perPiece*float64(pieces) + perByte*float64(bytes))), true
}

// fit is how many tokens there are for each piece of text and for each of its bytes, by
// least squares: so that the sum of both is one for what a token has.
func (a *sizeTally) fit() (perPiece, perByte float64) {
	det := a.pp*a.tt - a.pt*a.pt
	if det > 1e-3*a.pp*a.tt {
		perPiece = (a.p*a.tt - a.t*a.pt) / det
		perByte = (a.t*a.pp - a.p*a.pt) / det
	}
	switch {
	case perPiece > 0 && perByte >= 0:
		return perPiece, perByte
	case perByte > 0: // pieces tell nothing
		return 0, a.t / a.tt
	default: // bytes tell nothing, or both tell the same
		return a.p / a.pp, 0
	}
}

// tokensIn is how many tokens are made for a request in that time, whose choices are
// made side by side; 0 if nothing is known of it.
func (s *sizes) tokensIn(k kind, d time.Duration, choices int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	tally := s.byKind[k]
	if tally == nil || tally.seconds <= 0 || d <= 0 {
		return 0
	}
	return int64(math.Round(tally.made / tally.seconds * d.Seconds() * float64(max(1, choices))))
}
