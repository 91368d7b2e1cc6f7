package tokens

// What costs tokens besides text, as chat templates of current models have it.
// They are terms like the features: their weights are learned too.
const (
	perMessage = featureCount + iota // role and separators of a message
	perAnswer                        // the template's opening of the answer
	perTool                          // what surrounds a tool's definition
	termCount
)

// perPart is what an image or a sound of usual size has, in tokens. It is not
// learned: weir does not know their sizes.
const perPart = 800

// vector has a number for each term.
type vector [termCount]float64

// prior weighs terms in tokens, as long as nothing is known of a model. It was fitted
// to the counts of o200k, cl100k, Llama 3 and Qwen 3 in testdata, and drawn towards
// what is plausible where those say little.
var prior = vector{
	Words:         0.95,
	Titles:        1.3,
	MiddleLetters: 0.02,
	LateLetters:   0.3,
	Foreign:       1,
	OpenEnds:      0.6,
	CaseChanges:   1.2,
	Capitals:      0.1,
	Switches:      1.1,
	Digits:        0.2,
	DigitGroups:   1.1,
	SpacedDigits:  1.9,
	Signs:         0.67,
	MoreSigns:     0.05,
	Indents:       0.7,
	Newlines:      0.4,
	MoreNewlines:  0.3,
	Accented:      0.3,
	Vietnamese:    0.5,
	Greek:         0.5,
	Cyrillic:      0.32,
	Hebrew:        0.55,
	Arabic:        0.43,
	Indic:         0.5,
	Thai:          0.5,
	Typographic:   1,
	Kana:          0.78,
	Ideographs:    0.8,
	WideSigns:     1,
	Hangul:        0.83,
	Rare:          1.7,
	perMessage:    4,
	perAnswer:     3,
	perTool:       8,
}

// deviation is how far a model's weight may be from the prior: one standard deviation,
// in tokens.
func deviation(term int) float64 {
	switch term {
	case int(nothing):
		return 0
	case int(perMessage):
		return 3
	case int(perAnswer):
		return 10
	case int(perTool):
		return 8
	}
	return 0.4*prior[term] + 0.12
}

// dot is the sum of products.
func (v *vector) dot(w *vector) (sum float64) {
	for i := range v {
		sum += v[i] * w[i]
	}
	return sum
}
