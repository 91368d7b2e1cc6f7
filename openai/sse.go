package openai

import "bytes"

// The longest event that is read, in bytes. Longer ones pass unread. The last event
// of a response repeats all of it, and has the usage.
const (
	maxEvent         = 1 << 20
	maxResponseEvent = 8 << 20
)

// EventStream reads a text/event-stream answer while it passes by, in pieces cut
// anywhere. It never fails: what it cannot read it passes on. The zero value is
// ready for use; Strip and Text are to be set before the first Write.
//
// Lines end in LF, CRLF or CR, a byte order mark may come first, comments and
// fields other than data are passed over, and an event is longer than one piece
// as often as it likes to be, as the specification has it:
// https://html.spec.whatwg.org/multipage/server-sent-events.html
//
// # Which usage counts
//
// Usage in an event without choices is the whole answer's, and the last such
// event wins over all else. Usage that rides on choices (continuous usage of
// vLLM, the finish chunk of llama.cpp's completions, Groq's x_groq.usage) is
// taken to be that of the choice it came with: its last value for each choice is
// kept, and without an event of the first kind Usage returns the sum of the
// outputs with the largest input of each prompt. With one choice that is simply the last usage
// seen. In the streams of [Responses] and [Messages] usage is the whole answer's,
// wherever it stands; the last one counts, and what it does not give is taken from
// the one before.
type EventStream struct {
	// Endpoint is what was asked.
	Endpoint Endpoint
	// Strip removes each event that has an empty array of choices and a usage
	// object: the gateway asked for usage, the client did not, and clients that
	// did not ask trip over an event without choices.
	Strip bool
	// PerPrompt is how many choices each of several prompts has: choice i is of prompt
	// i / PerPrompt. At 0 all choices are of one prompt.
	PerPrompt int
	// Text, if not nil, is called with what the model generated, as JSON-escaped
	// text: content, reasoning, refusals, transcripts, tool calls. The bytes are valid until
	// Text returns.
	Text func(raw []byte)

	boundary boundary
	held     []byte // the unfinished event; with Strip not yet passed on
	out      []byte // what Write returned last, if it was not its argument
	joined   []byte // data of an event that has it in several lines
	started  bool   // an event was read: no byte order mark to expect
	skipping bool   // in an event beyond maxEvent
	ended    bool   // the last event ended in CR and a LF may follow
	removed  bool   // the last event was removed: so is that LF

	tally    tally
	done     bool
	finished bool
	reasons  []string
	failed   bool
	events   int64
	oversize int64
	stripped int64
}

// Usage returns what the upstream reported, by the rule given above, and
// whether it reported anything sane.
func (s *EventStream) Usage() (Usage, bool) { return s.tally.usage(s.PerPrompt) }

// Done reports whether the stream has said that it is over: "data: [DONE]", or the
// last event of a response or message. It comes after failures too.
func (s *EventStream) Done() bool { return s.done }

// Finished reports whether a choice had a finish_reason, or a message a
// stop_reason.
func (s *EventStream) Finished() bool { return s.finished }

// Reasons returns why choices ended, or the message did, each reason once.
func (s *EventStream) Reasons() []string { return s.reasons }

// finish takes the text of a finish_reason or stop_reason.
func (s *EventStream) finish(reason []byte) {
	if len(reason) > 0 {
		s.finished = true
		s.reasons = withReason(s.reasons, reason)
	}
}

// Failed reports whether an event had an error.
func (s *EventStream) Failed() bool { return s.failed }

// Events returns how many events had choices, or text.
func (s *EventStream) Events() int64 { return s.events }

// Oversize returns how many events were longer than 1 MiB (8 MiB in a response), and
// so not read.
func (s *EventStream) Oversize() int64 { return s.oversize }

// Stripped returns how many events were removed.
func (s *EventStream) Stripped() int64 { return s.stripped }

// Write takes the next bytes of the stream, last with those that end it (there
// may be none). It returns what to pass on in their place, valid until the next
// Write, and whether that differs from p; if not it is p itself.
//
// Without Strip nothing ever differs. With Strip an event that is not complete
// is held back until it is, or until the stream ends.
func (s *EventStream) Write(p []byte, last bool) (out []byte, changed bool) {
	w := pass{p: p, out: s.out[:0]}
	ends := newLineEnds(p)
	start := s.lineFeed(&w, 0)
	for {
		end := s.boundary.next(&ends, start)
		if end == 0 {
			break
		}
		s.event(&w, start, end)
		start = s.lineFeed(&w, end)
	}
	s.tail(&w, start, last)
	s.out = w.out
	return w.result()
}

// lineFeed steps over a LF at i which belongs to the event before.
func (s *EventStream) lineFeed(w *pass, i int) int {
	if !s.ended || i == len(w.p) {
		return i
	}
	s.ended = false
	if !s.boundary.lineFeed(w.p[i]) {
		return i
	}
	if s.removed {
		w.drop(i, i+1)
	}
	return i + 1
}

// event reads the event that ends with p[start:end], and passes it on or
// removes it.
func (s *EventStream) event(w *pass, start, end int) {
	event := w.p[start:end]
	held := len(s.held) > 0
	if held {
		s.held = append(s.held, event...)
		event = s.held
	}
	s.removed = s.read(event) && s.Strip
	s.ended = true
	switch {
	case s.removed:
		s.stripped++
		w.drop(start, end)
	case held && s.Strip:
		w.replace(start, end, event)
	}
	s.held = s.held[:0]
	s.skipping = false
}

// tail keeps the beginning of an event that does not end in this piece.
func (s *EventStream) tail(w *pass, start int, last bool) {
	rest := w.p[start:]
	if s.skipping {
		return
	}
	heldBack := s.Strip && len(s.held) > 0
	s.held = append(s.held, rest...)
	switch {
	case len(s.held) > s.maxEvent():
		s.oversize++
		s.skipping = true
	case last:
		s.read(s.held)
	case s.Strip && len(rest) > 0:
		w.drop(start, len(w.p))
		return
	default:
		return
	}
	if heldBack {
		w.replace(start, len(w.p), s.held)
	}
	s.held = s.held[:0]
}

// read reads an event and reports whether it is one that Strip removes.
func (s *EventStream) read(event []byte) (bare bool) {
	if s.skipping {
		return false
	}
	if len(event) > s.maxEvent() {
		s.oversize++
		return false
	}
	if !s.started {
		s.started = true
		event = bytes.TrimPrefix(event, []byte("\uFEFF"))
	}
	var text []byte
	text, s.joined = data(event, s.joined)
	text = bytes.TrimSpace(text)
	switch {
	case len(text) == 0:
		return false
	case string(text) == "[DONE]":
		s.done = true
		return false
	case s.Endpoint == Responses:
		s.response(text)
		return false
	case s.Endpoint == Messages:
		s.message(text)
		return false
	default:
		return s.chunk(text)
	}
}

// maxEvent is the longest event that is read.
func (s *EventStream) maxEvent() int {
	if s.Endpoint == Responses {
		return maxResponseEvent
	}
	return maxEvent
}

// pass collects what to pass on in place of p. As long as that is the beginning
// of p, nothing is copied.
type pass struct {
	p       []byte
	out     []byte
	copied  int // p[:copied] is dealt with, if changed
	changed bool
}

// drop leaves out p[start:end].
func (w *pass) drop(start, end int) {
	w.out = append(w.out, w.p[w.copied:start]...)
	w.copied = end
	w.changed = true
}

// replace puts b in the place of p[start:end].
func (w *pass) replace(start, end int, b []byte) {
	w.drop(start, end)
	w.out = append(w.out, b...)
}

func (w *pass) result() ([]byte, bool) {
	if !w.changed {
		return w.p, false
	}
	w.out = append(w.out, w.p[w.copied:]...)
	return w.out, true
}
