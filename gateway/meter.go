package gateway

import (
	"bytes"
	"net/http"

	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/tokens"
)

// meter reads an answer while it passes by.
type meter interface {
	// write takes the next bytes, last with those that end the answer, and
	// returns what to pass on in their place, valid until the next write, and
	// whether that differs.
	write(p []byte, last bool) (out []byte, changed bool)
	// over tells whether the answer says that it is complete.
	over() bool
	// begun tells whether something was generated.
	begun() bool
	// reading is what is known by now.
	reading() reading
}

// reading is what an answer says of itself.
type reading struct {
	usage    openai.Usage
	known    bool     // the upstream reported usage
	whole    bool     // and it is the whole answer's
	over     bool     // the answer says that it is complete
	failed   bool     // the answer says that it failed
	estimate int64    // tokens of the text that was seen
	passed   Passed   // of a stream
	pieces   int64    // that this text came in; 0 is unknown
	reasons  []string // why choices ended
}

// streamMeter reads a text/event-stream.
type streamMeter struct {
	events openai.EventStream
	text   tokens.Features
	pieces int64 // of text
	guess  func(pieces int64, text *tokens.Features) int64
	cut    *openai.Error
}

// newStreamMeter returns a meter that takes the usage event out if strip is set, and
// estimates by guess.
func newStreamMeter(ep openai.Endpoint, strip bool, guess func(int64, *tokens.Features) int64) *streamMeter {
	m := &streamMeter{guess: guess}
	m.events.Endpoint, m.events.Strip = ep, strip
	m.events.Text = func(raw []byte) {
		m.pieces++
		m.text.Add(raw)
	}
	return m
}

func (m *streamMeter) write(p []byte, last bool) (out []byte, changed bool) {
	out, changed = m.events.Write(p, last)
	if !last || m.events.Done() || m.events.Finished() || m.events.Failed() {
		return out, changed
	}
	// Clients take a clean end without a finish_reason for success.
	return m.fail(out, openai.CutShort()), true
}

// interrupt is the last thing to send of an answer that is broken off.
func (m *streamMeter) interrupt(e *openai.Error) []byte {
	out, _ := m.events.Write(nil, true)
	return m.fail(out, e)
}

// fail appends an error event to what there is to pass on.
func (m *streamMeter) fail(out []byte, e *openai.Error) []byte {
	m.cut = e
	event := make([]byte, 0, len(out)+512)
	event = append(event, out...)
	event = append(event, "\n\n"...) // what came before may be half an event
	return append(event, e.Event(m.events.Endpoint)...)
}

func (m *streamMeter) over() bool  { return m.events.Done() }
func (m *streamMeter) begun() bool { return m.pieces > 0 }

func (m *streamMeter) reading() reading {
	r := reading{
		over: m.over(), failed: m.events.Failed() || m.cut != nil, passed: Passed{Pieces: m.pieces, Text: m.text.Bytes()},
		// A piece of text is a token at least, and no token is less than a byte.
		estimate: m.guess(m.pieces, &m.text), pieces: m.pieces, reasons: m.events.Reasons(),
	}
	r.usage, r.known = m.events.Usage()
	r.whole = r.known && (r.over || m.events.Finished())
	return r
}

// What an answer that nobody can count is taken for: so many bytes of JSON around
// the text, and so many of text a token.
const (
	bytesAround   = 256
	bytesPerToken = 4
)

func tokensOf(bytes int64) int64 { return max(1, (bytes-bytesAround)/bytesPerToken) }

// plainMeter reads a JSON answer.
type plainMeter struct {
	answer openai.PlainAnswer
	n      int64
}

func newPlainMeter(ep openai.Endpoint) *plainMeter {
	return &plainMeter{answer: openai.PlainAnswer{Endpoint: ep}}
}

func (m *plainMeter) write(p []byte, last bool) (out []byte, changed bool) {
	m.n += int64(len(p))
	m.answer.Write(p, last)
	return p, false
}

func (m *plainMeter) over() bool  { return m.answer.Complete() }
func (m *plainMeter) begun() bool { return m.n > 0 }

func (m *plainMeter) reading() reading {
	r := reading{over: m.over(), estimate: tokensOf(m.n), reasons: m.answer.Reasons()}
	r.usage, r.known = m.answer.Usage()
	r.whole = r.known
	return r
}

// bytesMeter counts an answer that nobody can read: compressed, or of a type
// that is not the API's.
type bytesMeter struct {
	n     int64
	ended bool
}

func (m *bytesMeter) write(p []byte, last bool) (out []byte, changed bool) {
	m.n += int64(len(p))
	m.ended = m.ended || last
	return p, false
}

func (m *bytesMeter) over() bool  { return m.ended }
func (m *bytesMeter) begun() bool { return m.n > 0 }

func (m *bytesMeter) reading() reading {
	return reading{over: m.ended, estimate: tokensOf(m.n)}
}

// maxErrorBody bounds what is kept of an upstream's error.
const maxErrorBody = 64 << 10

// errorMeter keeps an upstream's error back, and passes it on in the one shape
// that clients know.
type errorMeter struct {
	x      *Exchange
	status int // as the client gets it
	opaque bool
	body   []byte
	err    *openai.Error // once the body has ended
}

func (m *errorMeter) write(p []byte, last bool) (out []byte, changed bool) {
	if room := maxErrorBody - len(m.body); !m.opaque {
		m.body = append(m.body, p[:min(room, len(p))]...)
	}
	if !last {
		return nil, true
	}
	m.err = m.x.inDialect(m.x.unquoted(m.status, m.body))
	return m.err.Body(), true
}

func (m *errorMeter) over() bool  { return m.err != nil }
func (m *errorMeter) begun() bool { return false }

func (m *errorMeter) reading() reading { return reading{over: m.over(), failed: true} }

// upstreamError is an upstream's error as clients see it.
func upstreamError(status int, ep openai.Endpoint, body []byte) *openai.Error {
	e := openai.NormalizeError(status, ep, bytes.TrimSpace(body))
	switch status {
	case http.StatusBadGateway:
		e.Type, e.Code = openai.TypeServer, openai.CodeUpstreamError
	case http.StatusServiceUnavailable:
		e.Type, e.Code = openai.TypeUnavailable, openai.CodeOverloaded
	case http.StatusGatewayTimeout:
		e.Type, e.Code = openai.TypeServer, openai.CodeUpstreamTimeout
	}
	return e
}
