package openai

import (
	"bytes"
	"encoding/json"
)

// Renamer puts a name in the place of the member "model" of an answer: of a JSON
// object, or of each event of a text/event-stream whose data is one on a single
// line. Where an endpoint's events wrap their object in another, it is the model of
// that one. It needs no more of the answer than it is given, and holds nothing back. The
// zero value renames nothing; NewRenamer makes one that does.
type Renamer struct {
	name   []byte // as JSON
	inner  string // the member of the outermost object whose model counts too; "" is none
	events bool

	line   lineState
	prefix int // bytes of "data:" that were seen, in a line that begins with them
	object objectState
}

// lineState is where in a line of a stream the renamer is.
type lineState uint8

const (
	lineBegins lineState = iota
	lineData             // in JSON
	lineOther
)

// objectState is where in a JSON object the renamer is.
type objectState struct {
	depth    int
	inString bool
	escaped  bool // the last byte of the string was a backslash that escapes
	wantName bool // where names count: the next string is a member's name
	isName   bool // the string is one
	word     [len(`response`) + 1]byte
	wordLen  int
	isModel  bool // the member that is read is "model"
	isInner  bool // it is the one whose model counts too
	inside   bool // that one is open
	skipping bool // its value is a string, and left out
	done     bool // renamed: the rest passes
}

const dataPrefix = "data:"

// NewRenamer returns a Renamer for an answer of ep, which is a stream of events or
// not.
func NewRenamer(ep Endpoint, model string, events bool) *Renamer {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(model) // a string: it cannot fail
	return &Renamer{name: bytes.TrimSuffix(b.Bytes(), []byte("\n")), inner: innerOf(ep, events), events: events}
}

// innerOf is the member that an endpoint's events wrap their object in.
func innerOf(ep Endpoint, events bool) string {
	switch {
	case events && ep == Responses:
		return "response"
	case events && ep == Messages:
		return "message"
	default:
		return ""
	}
}

// Write takes the next bytes of the answer and returns what to pass on: p itself if
// there is nothing to change in it.
func (r *Renamer) Write(p []byte) []byte {
	var out []byte
	kept := 0 // p up to there is in out
	for i := range p {
		if r.events && !r.inData(p[i]) {
			continue
		}
		if r.object.done {
			if !r.events {
				break
			}
			continue
		}
		switch r.object.step(p[i], r.inner) {
		case asItIs:
		case begin:
			out = append(append(out, p[kept:i]...), r.name...)
			kept = i + 1
		case skip:
			kept = i + 1
			if out == nil {
				out = make([]byte, 0, len(p))
			}
		}
	}
	if out == nil && kept == 0 {
		return p
	}
	return append(out, p[kept:]...)
}

// inData follows the lines of a stream, and tells whether a byte is of JSON.
func (r *Renamer) inData(c byte) bool {
	if c == '\n' || c == '\r' {
		r.line, r.prefix, r.object = lineBegins, 0, objectState{}
		return false
	}
	switch r.line {
	case lineData:
		return true
	case lineBegins:
		if c != dataPrefix[r.prefix] {
			r.line = lineOther
		} else if r.prefix++; r.prefix == len(dataPrefix) {
			r.line = lineData
		}
	case lineOther:
	}
	return false
}

// action is what becomes of a byte.
type action uint8

const (
	asItIs action = iota
	begin         // the value to be replaced begins with it
	skip          // it is of that value
)

// counts tells whether names count where the next value stands.
func (o *objectState) counts() bool { return o.depth == 1 || o.depth == 2 && o.inside }

// step takes the next byte of an object.
func (o *objectState) step(c byte, inner string) action {
	if o.inString {
		return o.stringByte(c, inner)
	}
	switch c {
	case '"':
		o.inString, o.escaped = true, false
		o.isName = o.counts() && o.wantName
		o.wordLen = 0
		if o.counts() && o.isModel && !o.wantName {
			o.skipping = true
			return begin
		}
	case '{', '[':
		o.inside = o.inside || o.isInner && c == '{'
		o.depth++
		o.isModel, o.isInner = false, false
		o.wantName = o.counts() && c == '{'
	case '}', ']':
		o.inside = o.inside && o.depth > 2
		o.depth--
	case ',':
		if o.counts() {
			o.wantName, o.isModel, o.isInner = true, false, false
		}
	}
	return asItIs
}

func (o *objectState) stringByte(c byte, inner string) action {
	if c == '"' && !o.escaped {
		o.inString = false
		if o.isName {
			name := string(o.word[:o.wordLen])
			o.wantName, o.isModel = false, name == "model"
			o.isInner = o.depth == 1 && inner != "" && name == inner
		}
		if o.skipping {
			o.skipping, o.done = false, true
			return skip
		}
		return asItIs
	}
	o.escaped = c == '\\' && !o.escaped
	if o.isName && o.wordLen < len(o.word) {
		o.word[o.wordLen] = c
		o.wordLen++
	}
	if o.skipping {
		return skip
	}
	return asItIs
}
