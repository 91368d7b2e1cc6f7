package tokens

// Feature is something in a text that costs tokens.
type Feature uint8

// The features. Words are runs of ASCII letters; a character of another script is
// told by the first of its bytes in UTF-8, or by the first digits of its \uXXXX.
const (
	nothing       Feature = iota // bytes that cost nothing, such as the second letter of a word
	Words                        // words that begin with a small letter
	Titles                       // words that begin with a capital
	MiddleLetters                // letters of a word from the fifth to the eighth
	LateLetters                  // and from the ninth
	Foreign                      // letters that are rare in English
	OpenEnds                     // words that end as few English ones do
	CaseChanges                  // a capital right after a small letter: camelCase
	Capitals                     // a capital after a capital
	Switches                     // a letter after a digit
	Digits                       // digits
	DigitGroups                  // and groups of three of them
	SpacedDigits                 // a number after a space
	Signs                        // ASCII signs
	MoreSigns                    // signs after a sign
	Indents                      // runs of several spaces: a single one belongs to its word
	Newlines                     // line ends and tabs
	MoreNewlines                 // right after another one
	Accented                     // Latin letters with accents, in two bytes
	Vietnamese                   // and in three, with other scripts that begin with E1
	Greek                        // Greek letters
	Cyrillic                     // Cyrillic letters
	Hebrew                       // Hebrew and Armenian letters
	Arabic                       // Arabic and Syriac letters
	Indic                        // letters of Indic scripts
	Thai                         // and of Thai and Lao
	Typographic                  // dashes, curly quotes, arrows, other symbols
	Kana                         // Japanese syllables
	Ideographs                   // Chinese characters
	WideSigns                    // signs of East Asian typography
	Hangul                       // Korean syllables
	Rare                         // characters of four bytes: emoji, rare ideographs
	featureCount
)

// Features counts the features of a text. The zero value is an empty text.
type Features struct {
	counts [32]uint32 // a power of two, so that no index needs a check
	state  state
	bytes  int64
}

// Add counts more text, which need not begin or end at a border of words.
func (f *Features) Add(raw []byte) {
	f.bytes += int64(len(raw))
	s := f.state
	for _, b := range raw {
		step := steps[s][b]
		f.counts[step.feature%32]++
		s = step.next % stateCount
	}
	f.state = s
}

// Bytes is the length of the text in bytes, as it was given.
func (f *Features) Bytes() int64 { return f.bytes }
