package openai

import "bytes"

// cursor walks JSON that is well-formed, or is allowed to be read wrongly: a
// request's body once [ParseRequest] has accepted it, and answers. It checks no
// more than it needs to find its way and takes NaN for a value like any other.
// On text it cannot follow it becomes broken, and then yields nothing more.
//
// Values are read in one pass. After enter, each member or element announced
// must be consumed, by enter, text, scalar or skip, before the next is asked for:
//
//	if c.enter('{') {
//		for c.member() {
//			switch string(c.key) {
//			case "model":
//				model = c.text()
//			default:
//				c.skip()
//			}
//		}
//	}
type cursor struct {
	b      []byte
	i      int    // next byte
	key    []byte // the member's decoded name
	first  bool   // an object or array was entered, nothing read of it yet
	broken bool
}

// done reports whether only space is left after a value that was understood.
func (c *cursor) done() bool {
	c.space()
	return !c.broken && c.i == len(c.b)
}

func (c *cursor) fail() {
	c.i = len(c.b)
	c.broken = true
}

func (c *cursor) space() {
	for c.i < len(c.b) && isSpace(c.b[c.i]) {
		c.i++
	}
}

// peek returns the first byte of the next value, 0 at the end.
func (c *cursor) peek() byte {
	c.space()
	if c.i == len(c.b) {
		return 0
	}
	return c.b[c.i]
}

// enter steps into the next value if it begins with open, '{' or '['; any other
// value is skipped.
func (c *cursor) enter(open byte) bool {
	if c.peek() != open {
		c.skip()
		return false
	}
	c.i++
	c.first = true
	return true
}

// more steps over the comma to the next member or element, or over the bracket
// that ends them.
func (c *cursor) more(closing byte) bool {
	first := c.first
	c.first = false
	switch b := c.peek(); {
	case b == closing:
		c.i++
		return false
	case first && b != 0:
		return true
	case b == ',':
		c.i++
		return true
	default:
		c.fail()
		return false
	}
}

// element announces the next element of the array that was entered.
func (c *cursor) element() bool { return c.more(']') }

// member announces the next member of the object that was entered, its name in
// c.key.
func (c *cursor) member() bool {
	if !c.more('}') {
		return false
	}
	if c.peek() != '"' {
		c.fail()
		return false
	}
	start := c.i + 1
	end, escaped := start, false
	for end < len(c.b) && c.b[end] != '"' {
		if c.b[end] == '\\' {
			escaped = true
			end++
		}
		end++
	}
	if end >= len(c.b) {
		c.fail()
		return false
	}
	c.key = c.b[start:end]
	c.i = end + 1
	if escaped {
		c.key = decodeString(c.key)
	}
	if c.peek() != ':' {
		c.fail()
		return false
	}
	c.i++
	return true
}

// text returns the contents of the next value, still escaped, if it is a string.
// Of a string that is cut off it returns what there is. Other values are
// skipped.
func (c *cursor) text() []byte {
	if c.peek() != '"' {
		c.skip()
		return nil
	}
	start := c.i + 1
	end := stringEnd(c.b, start)
	if end < 0 {
		c.fail()
		return c.b[start:]
	}
	c.i = end + 1
	return c.b[start:end]
}

// scalar returns the next value if it is a number or a literal; other values are
// skipped.
func (c *cursor) scalar() []byte {
	if b := c.peek(); b == '{' || b == '[' || b == '"' {
		c.skip()
		return nil
	}
	start := c.i
	for c.i < len(c.b) && !isDelimiter(c.b[c.i]) {
		c.i++
	}
	if c.i == start {
		c.fail()
	}
	return c.b[start:c.i]
}

// skip steps over the next value.
func (c *cursor) skip() {
	switch c.peek() {
	case '{', '[':
		c.skipNested()
	case '"':
		c.text()
	default:
		c.scalar()
	}
}

// raw skips the next value and returns its bytes.
func (c *cursor) raw() []byte {
	c.space()
	start := c.i
	c.skip()
	return c.b[start:c.i]
}

// skipNested steps over an object or array, matching brackets of either kind.
func (c *cursor) skipNested() {
	for depth := 0; c.i < len(c.b); {
		switch c.b[c.i] {
		case '"':
			c.text()
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		c.i++
		if depth == 0 {
			return
		}
	}
	c.fail()
}

// stringEnd returns the index of the quote that ends the string whose contents
// begin at i, -1 if there is none.
func stringEnd(b []byte, i int) int {
	for from := i; ; {
		n := bytes.IndexByte(b[from:], '"')
		if n < 0 {
			return -1
		}
		end := from + n
		if trailingBackslashes(b[from:end])%2 == 0 {
			return end
		}
		from = end + 1
	}
}

// trailingBackslashes returns how many backslashes b ends with.
func trailingBackslashes(b []byte) int {
	n := 0
	for n < len(b) && b[len(b)-1-n] == '\\' {
		n++
	}
	return n
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\n' || c == '\r' || c == '\t'
}

// isDelimiter reports whether c ends a number or literal.
func isDelimiter(c byte) bool {
	return c == ',' || c == '}' || c == ']' || isSpace(c) || c == ':' || c == '"' || c == '{' || c == '['
}
