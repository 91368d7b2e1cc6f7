package openai

import "bytes"

// lineEnds finds the ends of lines, LF, CRLF or CR, in a piece of a stream.
// Each of the two bytes is looked for once, not once a line: text of nothing but
// CRs must not take quadratic time.
type lineEnds struct {
	p      []byte
	cr, lf int // the next of each, at or after the last position asked for; -1 before the first
}

func newLineEnds(p []byte) lineEnds { return lineEnds{p, -1, -1} }

// next returns the index of the first CR or LF at or after from, len(p) if
// there is none.
func (l *lineEnds) next(from int) int {
	if l.cr < from {
		l.cr = indexFrom(l.p, from, '\r')
	}
	if l.lf < from {
		l.lf = indexFrom(l.p, from, '\n')
	}
	return min(l.cr, l.lf)
}

// indexFrom returns the index of the first c at or after from, len(p) if there
// is none.
func indexFrom(p []byte, from int, c byte) int {
	if n := bytes.IndexByte(p[from:], c); n >= 0 {
		return from + n
	}
	return len(p)
}

// boundary finds where events end: after an empty line. It carries its state
// from one piece of the stream to the next.
//
// https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
type boundary struct {
	inLine bool // the current line has bytes
	cr     bool // the byte before was a CR: a LF belongs to the same line end
}

// next returns the index after the byte that ends the event in which start
// lies, 0 if that byte is not at hand. When it is a CR, the event is complete
// though a LF may still belong to its last line end: see lineFeed.
func (b *boundary) next(l *lineEnds, start int) int {
	for i := start; i < len(l.p); {
		if b.cr && l.p[i] == '\n' {
			b.cr = false
			i++
			continue
		}
		b.cr = false
		end := l.next(i)
		if end == len(l.p) {
			b.inLine = true
			return 0
		}
		empty := !b.inLine && end == i
		b.inLine = false
		b.cr = l.p[end] == '\r'
		i = end + 1
		if empty {
			return i
		}
	}
	return 0
}

// lineFeed reports whether c is the second half of the CRLF of which the first
// half ended an event.
func (b *boundary) lineFeed(c byte) bool {
	second := b.cr && c == '\n'
	b.cr = false
	return second
}

// data returns the data of an event, its lines joined by LF, as the
// specification has it; any other field is passed over. joined is used when
// there are several lines, and returned for the next event.
func data(event, joined []byte) (data, scratch []byte) {
	lines := 0
	for len(event) > 0 {
		var line []byte
		line, event = cutLine(event)
		value, ok := bytes.CutPrefix(line, []byte("data"))
		switch {
		case !ok || len(value) > 0 && value[0] != ':':
			continue
		case len(value) > 0:
			value = bytes.TrimPrefix(value[1:], []byte(" "))
		}
		lines++
		switch lines {
		case 1:
			data = value
		case 2:
			joined = append(joined[:0], data...)
			fallthrough
		default:
			joined = append(joined, '\n')
			joined = append(joined, value...)
			data = joined
		}
	}
	return data, joined
}

// cutLine returns the first line of event without its end, and what follows. A
// CRLF leaves an empty line behind, which means nothing inside an event.
func cutLine(event []byte) (line, rest []byte) {
	end := bytes.IndexByte(event, '\n')
	if end < 0 {
		end = len(event)
	}
	if cr := bytes.IndexByte(event[:end], '\r'); cr >= 0 {
		end = cr
	}
	return event[:end], event[min(end+1, len(event)):]
}
