package openai

import (
	"bytes"
	"encoding/json"
)

// Renamer puts a name in the place of the member "model" of an answer: of a JSON
// object, or of each event of a text/event-stream whose data is one on a single
// line. It needs no more of the answer than it is given, and holds nothing back. The
// zero value renames nothing; NewRenamer makes one that does.
type Renamer struct {
	name   []byte // as JSON
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
	wantName bool // at depth 1: the next string is a member's name
	isName   bool // the string is one
	word     [len(`model`) + 1]byte
	wordLen  int
	isModel  bool // the member that is read is "model"
	skipping bool // its value is a string, and left out
	done     bool // renamed: the rest passes
}

const dataPrefix = "data:"

// NewRenamer returns a Renamer for an answer, which is a stream of events or not.
func NewRenamer(model string, events bool) *Renamer {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(model) // a string: it cannot fail
	return &Renamer{name: bytes.TrimSuffix(b.Bytes(), []byte("\n")), events: events}
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
		switch r.object.step(p[i]) {
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

// step takes the next byte of an object.
func (o *objectState) step(c byte) action {
	if o.inString {
		return o.stringByte(c)
	}
	switch c {
	case '"':
		o.inString, o.escaped = true, false
		o.isName = o.depth == 1 && o.wantName
		o.wordLen = 0
		if o.depth == 1 && o.isModel && !o.wantName {
			o.skipping = true
			return begin
		}
	case '{', '[':
		o.depth++
		o.isModel = false
		o.wantName = o.depth == 1 && c == '{'
	case '}', ']':
		o.depth--
	case ',':
		if o.depth == 1 {
			o.wantName, o.isModel = true, false
		}
	}
	return asItIs
}

func (o *objectState) stringByte(c byte) action {
	if c == '"' && !o.escaped {
		o.inString = false
		if o.isName {
			o.wantName, o.isModel = false, string(o.word[:o.wordLen]) == "model"
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
