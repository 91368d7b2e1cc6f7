package openai

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/http"
	"strings"
	"unicode/utf8"
)

// maxDepth is how deep objects and arrays may be nested. The parsers behind the
// gateway recurse, and answer deeper nesting with errors of their own.
const maxDepth = 128

// checker verifies JSON as RFC 8259 has it while moving over it, and keeps the
// first mistake. It does not look at UTF-8: that is checked for the whole body
// beforehand.
//
// https://www.rfc-editor.org/rfc/rfc8259
type checker struct {
	b      []byte
	i      int  // next byte
	param  span // name of the top-level member being read, if any, for the error
	option span // name of the member of that one being read, if any
	err    *Error
}

// maxParam bounds the name of a member that an error repeats, in bytes.
const maxParam = 64

// paramName returns the name of the member being read, "" for none or a long one.
func (c *checker) paramName() string {
	name := string(decodeString(c.param.of(c.b)))
	if c.option.end > 0 {
		name += "." + string(decodeString(c.option.of(c.b)))
	}
	if len(name) > maxParam {
		return ""
	}
	return strings.ToValidUTF8(name, "?")
}

// fail notes a mistake and returns false.
func (c *checker) fail(code, format string, args ...any) bool {
	if c.err == nil {
		c.err = &Error{
			Status:  http.StatusBadRequest,
			Type:    TypeInvalidRequest,
			Code:    code,
			Param:   c.paramName(),
			Message: fmt.Sprintf(format, args...),
		}
	}
	return false
}

// unexpected refuses the next byte, where want should have stood.
func (c *checker) unexpected(want string) bool {
	if c.i >= len(c.b) {
		return c.fail(CodeInvalidJSON, "The JSON ends too early, at byte %d: expected %s. Send the complete body.", len(c.b), want)
	}
	r, _ := utf8.DecodeRune(c.b[c.i:])
	return c.fail(CodeInvalidJSON, "Unexpected character %q at byte %d: expected %s. Correct the JSON.", r, c.i, want)
}

// peek returns the next byte that is not space, 0 at the end. (A NUL in the
// text is no better than its end: neither can begin anything.)
func (c *checker) peek() byte {
	for c.i < len(c.b) && isSpace(c.b[c.i]) {
		c.i++
	}
	if c.i == len(c.b) {
		return 0
	}
	return c.b[c.i]
}

// open steps into an object or array and reports whether it has an element.
func (c *checker) open(closing byte) bool {
	c.i++
	if c.peek() == closing {
		c.i++
		return false
	}
	return true
}

// more steps over what follows an element and reports whether that announced
// another one. False is also returned for a mistake, see c.err.
func (c *checker) more(closing byte) bool {
	switch c.peek() {
	case ',':
		c.i++
		return true
	case closing:
		c.i++
		return false
	case 0:
	}
	if closing == '}' {
		return c.unexpected(`"," or "}" after a member`)
	}
	return c.unexpected(`"," or "]" after an element`)
}

// name reads a member's name and the colon, and returns the name's contents,
// still escaped.
func (c *checker) name() (raw span, ok bool) {
	if c.peek() != '"' {
		return span{}, c.unexpected("a member's name in double quotes")
	}
	raw.start = c.i + 1
	if !c.str() {
		return span{}, false
	}
	raw.end = c.i - 1
	if c.peek() != ':' {
		return span{}, c.unexpected(`":" after a member's name`)
	}
	c.i++
	return raw, true
}

// value checks the next value, which lies inside depth objects and arrays.
func (c *checker) value(depth int) bool {
	switch b := c.peek(); b {
	case '"':
		return c.str()
	case '{', '[':
		if depth == maxDepth {
			return c.fail(CodeInvalidJSON, "The JSON is nested deeper than %d levels at byte %d. Send a flatter body.", maxDepth, c.i)
		}
		if b == '{' {
			return c.object(depth + 1)
		}
		return c.array(depth + 1)
	case 't':
		return c.literal("true")
	case 'f':
		return c.literal("false")
	case 'n':
		return c.literal("null")
	default:
		return c.number()
	}
}

func (c *checker) object(depth int) bool {
	for more := c.open('}'); more; more = c.more('}') {
		if _, ok := c.name(); !ok || !c.value(depth) {
			return false
		}
	}
	return c.err == nil
}

func (c *checker) array(depth int) bool {
	for more := c.open(']'); more; more = c.more(']') {
		if !c.value(depth) {
			return false
		}
	}
	return c.err == nil
}

func (c *checker) literal(word string) bool {
	if !bytes.HasPrefix(c.b[c.i:], []byte(word)) {
		return c.unexpected("a value")
	}
	c.i += len(word)
	return true
}

// number checks a number.
func (c *checker) number() bool {
	start := c.i
	if c.i < len(c.b) && c.b[c.i] == '-' {
		c.i++
	}
	switch {
	case c.i == len(c.b) || !isDigit(c.b[c.i]):
		return c.noNumber(start)
	case c.b[c.i] == '0':
		c.i++
	default:
		c.digits()
	}
	return c.fraction() && c.exponent()
}

// noNumber refuses a value that begins at start like none at all.
func (c *checker) noNumber(start int) bool {
	for _, word := range []string{"NaN", "Infinity", "-Infinity"} {
		if bytes.HasPrefix(c.b[start:], []byte(word)) {
			return c.fail(CodeInvalidJSON, "%s at byte %d is not a JSON number. Send a finite number or null.", word, start)
		}
	}
	if c.i > start {
		return c.unexpected("a digit")
	}
	return c.unexpected("a value")
}

func (c *checker) fraction() bool {
	if c.i == len(c.b) || c.b[c.i] != '.' {
		return true
	}
	c.i++
	return c.digits()
}

func (c *checker) exponent() bool {
	if c.i == len(c.b) || c.b[c.i]|0x20 != 'e' {
		return true
	}
	c.i++
	if c.i < len(c.b) && (c.b[c.i] == '+' || c.b[c.i] == '-') {
		c.i++
	}
	return c.digits()
}

// digits steps over one digit or more.
func (c *checker) digits() bool {
	start := c.i
	for c.i < len(c.b) && isDigit(c.b[c.i]) {
		c.i++
	}
	return c.i > start || c.unexpected("a digit")
}

// str checks the string that begins at the next byte.
func (c *checker) str() bool {
	start := c.i
	c.i++
	for {
		c.i += plainPrefix(c.b[c.i:])
		if c.i == len(c.b) {
			return c.fail(CodeInvalidJSON, "The JSON ends inside the string that begins at byte %d. Send the complete body.", start)
		}
		switch b := c.b[c.i]; b {
		case '"':
			c.i++
			return true
		case '\\':
			if !c.escape() {
				return false
			}
		default:
			return c.fail(CodeInvalidJSON, "Control character U+%04X in a string at byte %d. Write it as \\u%04x.", b, c.i, b)
		}
	}
}

// escape steps over an escape sequence.
func (c *checker) escape() bool {
	if c.i+1 < len(c.b) {
		switch c.b[c.i+1] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			c.i += 2
			return true
		}
	}
	if _, ok := hexEscape(c.b[c.i:]); ok {
		c.i += 6
		return true
	}
	return c.fail(CodeInvalidJSON, `Invalid escape sequence in a string at byte %d. Write a backslash as "\\".`, c.i)
}

// plainPrefix returns how many bytes at the start of b are neither a quote, nor
// a backslash, nor a control character. It looks at eight bytes at a time.
//
// For each of the three, a subtraction sets the top bit of the bytes that match
// (see "Determine if a word has a byte less than n" in Anderson's Bit Twiddling
// Hacks). A borrow may mark further bytes, but only above one that does match,
// and only the lowest counts.
func plainPrefix(b []byte) int {
	const (
		ones  = 0x0101010101010101
		tops  = ones * 0x80
		quote = ones * '"'
		slash = ones * '\\'
		space = ones * ' '
	)
	n := 0
	for ; len(b)-n >= 8; n += 8 {
		w := binary.LittleEndian.Uint64(b[n:])
		q, s := w^quote, w^slash
		if found := ((w-space)&^w | (q-ones)&^q | (s-ones)&^s) & tops; found != 0 {
			return n + bits.TrailingZeros64(found)/8
		}
	}
	for n < len(b) && isPlainText(b[n]) {
		n++
	}
	return n
}

// isPlainText reports whether c may stand in a string as it is and does not end it.
func isPlainText(c byte) bool { return c >= ' ' && c != '"' && c != '\\' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
