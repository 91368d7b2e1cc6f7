package tokens

import "math"

// Prompt is what is known of a prompt before the call.
type Prompt struct {
	Text     Features
	Messages int // 0 for completions
	Tools    int // that are defined
	Parts    int // images and sounds
	TokenIDs int // tokens that were given as such
}

// terms are the prompt's amounts of each term.
func (p *Prompt) terms() vector {
	v := p.Text.terms()
	v[perTool] = float64(p.Tools)
	if p.Messages > 0 {
		v[perMessage], v[perAnswer] = float64(p.Messages), 1
	}
	return v
}

func (p *Prompt) estimate(weights *vector) int64 {
	v := p.terms()
	return max(rounded(v.dot(weights)), min(p.Text.bytes, 1)) + int64(p.TokenIDs) + int64(p.Parts)*perPart
}

func (f *Features) terms() (v vector) {
	for i := range featureCount {
		v[i] = float64(f.counts[i])
	}
	return v
}

// estimate is how many tokens the text has. A text that is not empty has at least
// one, and none has more than it has bytes.
func (f *Features) estimate(weights *vector) int64 {
	v := f.terms()
	return min(max(rounded(v.dot(weights)), 1), f.bytes)
}

func rounded(n float64) int64 { return int64(math.Round(n)) }
