package tokens

// state is what the text so far says about the next byte.
type state uint8

// The states.
const (
	start  state = iota // nothing that matters
	small1              // in a word, after its first letter: a small one
	small2
	small3
	small4
	small5
	small6
	small7
	small8
	small9 // after the ninth or a later one
	vowel1 // the same, where that letter is one that few English words end in
	vowel2
	vowel3
	vowel4
	vowel5
	vowel6
	vowel7
	vowel8
	vowel9
	capital1 // after a capital that begins a word
	capitals // after another capital
	digit1   // after the first digit of a group of three
	digit2
	digit3
	signed
	spaced
	indented // after two spaces or more
	lineEnd
	afterE0 // in a character that begins with this byte
	afterE3
	afterEF
	escape     // after a backslash
	escapeLine // and a line end before it
	hex        // after \u
	hex0       // after \u0
	hex00
	hex3
	hex30
	hexD
	hexSign // before the last digit of a \uXXXX that is a sign
	skip3   // before the last three of any other
	skip2
	skip1
)

// stateCount is a power of two beyond them, so that no index needs a check.
const stateCount = 64

// step is what a byte does in a state.
type step struct {
	feature Feature
	next    state
}

// steps is what each byte does in each state.
var steps = allSteps()

func allSteps() (t [stateCount][256]step) {
	for s := range skip1 + 1 {
		for b := range 256 {
			t[s][b] = stepOf(s, byte(b))
		}
	}
	return t
}

// stepOf is how the automaton is defined.
func stepOf(s state, b byte) step {
	switch {
	case s == escape:
		return escaped(b, false)
	case s == escapeLine:
		return escaped(b, true)
	case s >= hex:
		if !isHex(b) {
			return stepOf(start, b)
		}
		return hexDigit(s, b)
	case b == '\\' && s == lineEnd:
		return step{nothing, escapeLine}
	case b == '\\':
		return step{nothing, escape}
	case b >= 'a' && b <= 'z':
		return smallLetter(s, b)
	case b >= 'A' && b <= 'Z':
		return capitalLetter(s)
	case isDigit(b):
		return digit(s)
	case b == ' ':
		return space(s)
	case b == '\n' || b == '\r' || b == '\t':
		return newline(s)
	case b > ' ' && b < 0x7f:
		return sign(s)
	case b >= 0x80:
		return beyondASCII(s, b)
	}
	return step{nothing, start}
}

func isDigit(b byte) bool { return b >= '0' && b <= '9' }

func isHex(b byte) bool {
	return isDigit(b) || b >= 'a' && b <= 'f' || b >= 'A' && b <= 'F'
}

func inDigits(s state) bool { return s >= digit1 && s <= digit3 }
func inSmall(s state) bool  { return s >= small1 && s <= vowel9 }

// smallLetter takes a letter, and tells apart those that are less usual in English:
// vocabularies know less of other languages' words by heart.
func smallLetter(s state, b byte) step {
	switch {
	case inDigits(s):
		return step{Switches, small1}
	case s == capital1 || s == capitals:
		s = small1
	case !inSmall(s):
		return step{Words, small1}
	}
	n := min((s-small1)%9+1, 8) // letters so far, less one
	next := small1 + n
	switch b {
	case 'a', 'i', 'o', 'u':
		next = vowel1 + n
	case 'j', 'k', 'q', 'x', 'z':
		return step{Foreign, next}
	}
	switch {
	case n < 4:
		return step{nothing, next}
	case n < 8:
		return step{MiddleLetters, next}
	}
	return step{LateLetters, next}
}

func capitalLetter(s state) step {
	switch {
	case inSmall(s):
		return step{CaseChanges, capital1}
	case s == capital1 || s == capitals:
		return step{Capitals, capitals}
	case inDigits(s):
		return step{Switches, capital1}
	}
	return step{Titles, capital1}
}

func digit(s state) step {
	switch s {
	case digit1, digit2:
		return step{Digits, s + 1}
	case spaced, indented:
		return step{SpacedDigits, digit1}
	default:
		return step{DigitGroups, digit1}
	}
}

func space(s state) step {
	switch s {
	case spaced:
		return step{Indents, indented}
	case indented:
		return step{nothing, indented}
	default:
		if s >= vowel1 && s <= vowel9 {
			return step{OpenEnds, spaced}
		}
		return step{nothing, spaced}
	}
}

func newline(s state) step {
	if s == lineEnd {
		return step{MoreNewlines, lineEnd}
	}
	return step{Newlines, lineEnd}
}

func sign(s state) step {
	if s == signed {
		return step{MoreSigns, signed}
	}
	return step{Signs, signed}
}

// beyondASCII takes a byte of a character that has several.
func beyondASCII(s state, b byte) step {
	switch {
	case b < 0xc0: // not the first
		switch {
		case s == afterE0 && b >= 0xb8:
			return step{Thai, start}
		case s == afterE0:
			return step{Indic, start}
		case s == afterE3 && b == 0x80, s == afterEF && (b == 0xbc || b == 0xbd):
			return step{WideSigns, start}
		case s == afterE3 && b <= 0x83:
			return step{Kana, start}
		case s == afterE3:
			return step{Ideographs, start}
		case s == afterEF:
			return step{Typographic, start}
		}
		return step{nothing, start}
	case b == 0xe0:
		return step{nothing, afterE0}
	case b == 0xe3:
		return step{nothing, afterE3}
	case b == 0xef:
		return step{nothing, afterEF}
	}
	return step{scriptOf(b), start}
}

// scriptOf is the feature of the characters that begin with a byte.
func scriptOf(b byte) Feature {
	switch {
	case b < 0xcd:
		return Accented
	case b < 0xd0:
		return Greek
	case b < 0xd4:
		return Cyrillic
	case b < 0xd8:
		return Hebrew
	case b < 0xe0:
		return Arabic
	case b == 0xe1:
		return Vietnamese
	case b == 0xe2:
		return Typographic
	case b < 0xea:
		return Ideographs
	case b < 0xee:
		return Hangul
	case b == 0xee:
		return Typographic
	}
	return Rare
}

// escaped takes the byte after a backslash, which may have come after a line end.
func escaped(b byte, again bool) step {
	switch b {
	case 'u':
		return step{nothing, hex}
	case 'n', 'r', 't', 'f', 'b':
		if again {
			return newline(lineEnd)
		}
		return newline(start)
	}
	return sign(start)
}

// hexDigit takes a digit of \uXXXX, and counts the character as soon as it is known.
func hexDigit(s state, b byte) step {
	switch s {
	case hex:
		return firstDigit(b)
	case hex0:
		return secondDigit(b)
	case hex00:
		if b < '8' {
			return step{Signs, hexSign} // such as \u003c
		}
		return step{Accented, skip1}
	case hex3:
		if b == '0' {
			return step{nothing, hex30}
		}
		return step{Ideographs, skip2}
	case hex30:
		if b < '4' {
			return step{WideSigns, skip1}
		}
		return step{Kana, skip1}
	case hexD:
		switch {
		case b < '8':
			return step{Hangul, skip2}
		case b == '8' || b == '9' || b|0x20 == 'a' || b|0x20 == 'b':
			return step{Rare, skip2} // and the other half of the pair costs nothing
		}
		return step{nothing, skip2}
	case hexSign:
		return step{nothing, signed}
	case skip3, skip2:
		return step{nothing, s + 1}
	default:
		return step{nothing, start}
	}
}

func firstDigit(b byte) step {
	switch b | 0x20 {
	case '0' | 0x20:
		return step{nothing, hex0}
	case '1' | 0x20:
		return step{Vietnamese, skip3}
	case '2' | 0x20:
		return step{Typographic, skip3}
	case '3' | 0x20:
		return step{nothing, hex3}
	case 'a', 'b', 'c':
		return step{Hangul, skip3}
	case 'd':
		return step{nothing, hexD}
	case 'e':
		return step{Typographic, skip3}
	case 'f':
		return step{WideSigns, skip3}
	}
	return step{Ideographs, skip3}
}

func secondDigit(b byte) step {
	switch b {
	case '0':
		return step{nothing, hex00}
	case '1', '2':
		return step{Accented, skip2}
	case '3':
		return step{Greek, skip2}
	case '4':
		return step{Cyrillic, skip2}
	case '5':
		return step{Hebrew, skip2}
	case '6', '7':
		return step{Arabic, skip2}
	case 'e', 'E':
		return step{Thai, skip2}
	}
	return step{Indic, skip2}
}
