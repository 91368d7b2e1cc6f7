package tokens

import "math"

// What costs tokens besides text, as chat templates of current models have it.
const (
	perMessage = 4   // role and separators of a message
	perAnswer  = 3   // the template's opening of the answer
	perPart    = 800 // an image or a sound of usual size
)

// prior weighs features in tokens.
var prior = [featureCount]float64{
	Words:        1.0,
	LongLetters:  0.22,
	CaseChanges:  0.9,
	DigitGroups:  1.0,
	Punctuation:  0.75,
	RepeatedSign: 0.45,
	Spaces:       0.12,
	Newlines:     0.6,
	TwoBytes:     0.42,
	ThreeBytes:   0.75,
	FourBytes:    1.9,
	Escapes:      0.8,
}

// Estimate is how many tokens the text has. A text that is not empty has at
// least one, and none has more than it has bytes.
func (f *Features) Estimate() int64 {
	var sum float64
	for i, n := range f.counts {
		sum += prior[i] * float64(n)
	}
	n := int64(math.Ceil(sum))
	if f.bytes > 0 {
		n = max(1, n)
	}
	return min(n, f.bytes)
}

// Prompt is what is known of a prompt before the call.
type Prompt struct {
	Text     Features
	Messages int // 0 for completions
	Parts    int // images and sounds
	TokenIDs int // tokens that were given as such
}

// Estimate is how many tokens the prompt has.
func (p *Prompt) Estimate() int64 {
	n := p.Text.Estimate() + int64(p.TokenIDs) + int64(p.Parts)*perPart
	if p.Messages > 0 {
		n += int64(p.Messages)*perMessage + perAnswer
	}
	return n
}
