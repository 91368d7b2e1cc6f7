package openai

import "bytes"

// maxUsage is the longest usage object that is read, in bytes.
const maxUsage = 16 << 10

// watchDepth is how deep a usage object's name may stand: choices.0.usage.
const watchDepth = 3

// PlainAnswer reads a JSON answer while it passes by, in pieces cut anywhere. It
// keeps nothing but the usage object, so an answer may be of any size. The zero
// value is ready for use.
//
// Usage is read where servers put it: usage, choices.0.usage, x_groq.usage,
// response.usage and message.usage of the outermost object. The last sane one wins.
// Of audio the member duration of a detailed answer counts where there is none.
type PlainAnswer struct {
	// Endpoint is what was asked; it is to be set before the first Write.
	Endpoint Endpoint

	depth    int  // objects and arrays that are open
	begun    bool // the outermost object has begun
	complete bool // and ended; what follows is ignored
	foreign  bool // the answer is no object

	inString bool
	odd      bool // inString: an odd number of backslashes came last
	word     [maxReason + 1]byte
	wordLen  int // of the last string; counts no further than len(word)

	// Of the containers that are open, by depth: the name of the member being
	// read, and how many members or elements came before it.
	names    [watchDepth + 1]name
	elements [watchDepth + 1]int

	capturing bool // a usage object is being read, until depth is outside again
	outside   int  // depth outside of it
	captured  []byte
	duration  bool // the value of duration is being read, a number or a text

	reasons  []string
	usage    Usage
	hasUsage bool
	seconds  float64 // duration
}

// name is a member's name, as far as it matters.
type name uint8

const (
	otherName name = iota
	usageName
	choicesName
	groqName
	responseName
	messageName
	durationName
	finishName
	stopName
)

// Usage returns what the upstream reported, and whether it was sane.
func (a *PlainAnswer) Usage() (Usage, bool) {
	if !a.hasUsage && a.seconds > 0 {
		return Usage{Seconds: a.seconds}, true
	}
	return a.usage, a.hasUsage
}

// Reasons returns why choices ended, or the message did, each reason once.
func (a *PlainAnswer) Reasons() []string { return a.reasons }

// Complete reports whether the outermost object has ended: an answer that is cut
// off is not complete.
func (a *PlainAnswer) Complete() bool { return a.complete }

// Write takes the next bytes of the answer, last with those that end it. There
// is nothing that only the end could tell, so last changes nothing.
func (a *PlainAnswer) Write(p []byte, _ bool) {
	for i := 0; i < len(p) && !a.complete && !a.foreign; {
		from, captures, times := i, a.capturing, a.duration
		if a.inString {
			i = a.stringPart(p, i)
		} else {
			i = a.structure(p, i)
		}
		switch {
		case captures:
			a.capture(p[from:i])
		case times:
			a.time(p[from:i])
		}
	}
}

// stringPart reads on in a string, to its end or that of p.
func (a *PlainAnswer) stringPart(p []byte, i int) int {
	end := len(p)
	if n := bytes.IndexByte(p[i:], '"'); n >= 0 {
		end = i + n
	}
	part := p[i:end]
	if a.depth <= watchDepth && a.wordLen < len(a.word) {
		a.wordLen += copy(a.word[a.wordLen:], part)
	}
	slashes := trailingBackslashes(part)
	a.odd = (slashes%2 == 1) != (a.odd && slashes == len(part))
	if end == len(p) {
		return end
	}
	if !a.odd {
		a.inString = false
		if a.atReason() {
			a.reasons = withReason(a.reasons, a.word[:a.wordLen])
		}
	}
	a.odd = false
	return end + 1
}

// atReason reports whether the string that was read says why a choice ended, or the
// message did.
func (a *PlainAnswer) atReason() bool {
	switch a.depth {
	case 1:
		return a.names[1] == stopName && a.Endpoint.Anthropic()
	case 3:
		return a.names[3] == finishName && a.names[1] == choicesName
	default:
		return false
	}
}

// structure reads up to and with the next byte that is not part of a number or
// literal.
func (a *PlainAnswer) structure(p []byte, i int) int {
	for i < len(p) && a.begun && isScalar(p[i]) {
		i++
	}
	if i == len(p) {
		return i
	}
	switch c := p[i]; c {
	case '"':
		a.inString, a.odd, a.wordLen = true, false, 0
		a.foreign = !a.begun
	case '{', '[':
		a.open(c)
	case '}', ']':
		a.close()
	case ':':
		if a.depth <= watchDepth {
			a.names[a.depth] = a.lastWord()
			a.duration = a.Endpoint.Form() && a.depth == 1 && a.names[1] == durationName
			if a.duration {
				a.captured = a.captured[:0]
			}
		}
	case ',':
		if a.depth <= watchDepth {
			a.names[a.depth] = otherName
			a.elements[a.depth]++
		}
	default:
		a.foreign = !a.begun && !isSpace(c)
	}
	return i + 1
}

// isScalar reports whether c is space or may be in a number or literal.
func isScalar(c byte) bool {
	return c != '"' && c != ',' && c != ':' && c|0x20 != '{' && c|0x20 != '}'
}

// open begins an object or array.
func (a *PlainAnswer) open(c byte) {
	if !a.begun && c != '{' {
		a.foreign = true
		return
	}
	a.begun = true
	if c == '{' && !a.capturing && a.atUsage() {
		a.capturing, a.outside = true, a.depth
		if a.captured == nil {
			a.captured = make([]byte, 0, 512) // more than most usage objects
		}
		a.captured = append(a.captured[:0], c)
	}
	a.depth++
	if a.depth <= watchDepth {
		a.names[a.depth], a.elements[a.depth] = otherName, 0
	}
}

// close ends an object or array.
func (a *PlainAnswer) close() {
	a.depth--
	a.complete = a.begun && a.depth <= 0
	a.foreign = !a.begun
}

// atUsage reports whether the value that begins is where usage stands.
func (a *PlainAnswer) atUsage() bool {
	switch a.depth {
	case 1:
		return a.names[1] == usageName
	case 2:
		outer := a.names[1]
		return a.names[2] == usageName && (outer == groqName || outer == responseName || outer == messageName)
	case 3:
		return a.names[1] == choicesName && a.elements[2] == 0 && a.names[3] == usageName
	default:
		return false
	}
}

// lastWord returns the name that the last string is.
func (a *PlainAnswer) lastWord() name {
	switch string(a.word[:a.wordLen]) {
	case "usage":
		return usageName
	case "choices":
		return choicesName
	case "x_groq":
		return groqName
	case "response":
		return responseName
	case "message":
		return messageName
	case "duration":
		return durationName
	case "finish_reason":
		return finishName
	case "stop_reason":
		return stopName
	default:
		return otherName
	}
}

// capture takes a part of the usage object, and reads the object once it has
// ended. An object that is too long is let go.
func (a *PlainAnswer) capture(part []byte) {
	if len(a.captured) <= maxUsage {
		a.captured = append(a.captured, part...)
	}
	if a.depth > a.outside {
		return
	}
	a.capturing = false
	if len(a.captured) > maxUsage {
		return
	}
	c := cursor{b: a.captured}
	if r, ok := c.usage(a.Endpoint); ok {
		a.usage, a.hasUsage = r.Usage, true
	}
}

// time takes a part of the value of duration, and reads it once what ends it has
// come.
func (a *PlainAnswer) time(part []byte) {
	if len(a.captured) <= maxWord {
		a.captured = append(a.captured, part...)
	}
	if last := part[len(part)-1]; a.inString || a.depth == 1 && last != ',' {
		return
	}
	a.duration = false
	c := cursor{b: a.captured}
	if s, ok := c.seconds(); ok {
		a.seconds = s
	}
}
