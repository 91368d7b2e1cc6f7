package tokens

// Feature is something in a text that costs tokens.
type Feature uint8

// The features. Words are runs of ASCII letters.
const (
	Words        Feature = iota // runs of letters
	LongLetters                 // letters of a word beyond the seventh
	CaseChanges                 // a capital right after a small letter: camelCase
	DigitGroups                 // digits in groups of three
	Punctuation                 // ASCII signs after something else
	RepeatedSign                // the same kind of sign again
	Spaces                      // spaces after a space: a single one belongs to its word
	Newlines                    // line ends and tabs
	TwoBytes                    // characters of two bytes in UTF-8: Latin with accents, Cyrillic, Greek
	ThreeBytes                  // of three bytes: CJK and most other scripts
	FourBytes                   // of four bytes: emoji, rare ideographs
	Escapes                     // \uXXXX
	featureCount
)

// Features counts the features of a text. The zero value is an empty text.
type Features struct {
	counts [featureCount]uint32
	prev   class
	run    uint32 // length of the run of letters or digits so far
	escape int8   // bytes of an escape still to come; -1 after a backslash
	bytes  int64
}

// class is what a byte is.
type class uint8

const (
	other class = iota // control bytes, continuation bytes of UTF-8
	small
	capital
	digit
	sign
	space
	newline
	lead2
	lead3
	lead4
	backslash
)

var classes = classTable()

func classTable() (t [256]class) {
	for b := range t {
		t[b] = classOf(byte(b))
	}
	return t
}

func classOf(b byte) class {
	switch {
	case b >= 'a' && b <= 'z':
		return small
	case b >= 'A' && b <= 'Z':
		return capital
	case b >= '0' && b <= '9':
		return digit
	case b == '\\':
		return backslash
	case b == ' ':
		return space
	case b == '\n' || b == '\r' || b == '\t':
		return newline
	case b > ' ' && b < 0x7f:
		return sign
	case b >= 0xf0:
		return lead4
	case b >= 0xe0:
		return lead3
	case b >= 0xc0:
		return lead2
	}
	return other
}

// Add counts more text, which need not begin or end at a border of words.
func (f *Features) Add(raw []byte) {
	f.bytes += int64(len(raw))
	for _, b := range raw {
		c := classes[b]
		if f.escape != 0 || c == backslash {
			c = f.escaped(b)
		}
		f.count(c)
	}
}

// escaped takes a byte of an escape and returns the class that the whole has,
// or other while it is incomplete.
func (f *Features) escaped(b byte) class {
	switch {
	case f.escape == 0:
		f.escape = -1
		return other
	case f.escape > 0:
		f.escape--
		return other
	}
	f.escape = 0
	switch b {
	case 'u':
		f.escape = 4
		f.counts[Escapes]++
		return other
	case 'n', 'r', 't', 'f', 'b':
		return newline
	default:
		return sign
	}
}

// count adds a byte of that class.
func (f *Features) count(c class) {
	switch c {
	case small, capital:
		f.letter(c)
	case digit:
		if f.prev != digit {
			f.run = 0
		}
		if f.run%3 == 0 {
			f.counts[DigitGroups]++
		}
		f.run++
	case sign:
		f.repeatable(c, Punctuation, RepeatedSign)
	case space:
		if f.prev == space {
			f.counts[Spaces]++
		}
	case newline:
		f.counts[Newlines]++
	case lead2:
		f.counts[TwoBytes]++
	case lead3:
		f.counts[ThreeBytes]++
	case lead4:
		f.counts[FourBytes]++
	case other, backslash:
		return // continues what came before
	}
	f.prev = c
}

func (f *Features) letter(c class) {
	switch {
	case f.prev != small && f.prev != capital:
		f.counts[Words]++
		f.run = 0
	case c == capital && f.prev == small:
		f.counts[CaseChanges]++
		f.run = 0
	}
	f.run++
	if f.run > 7 {
		f.counts[LongLetters]++
	}
}

func (f *Features) repeatable(c class, first, again Feature) {
	if f.prev == c {
		f.counts[again]++
	} else {
		f.counts[first]++
	}
}

// Bytes is the length of the text in bytes, as it was given.
func (f *Features) Bytes() int64 { return f.bytes }
