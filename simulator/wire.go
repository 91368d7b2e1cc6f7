package simulator

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// fingerprint is the system_fingerprint of all answers.
const fingerprint = `"system_fingerprint":"simulator-1"`

const (
	doneEvent    = "data: [DONE]\n\n"
	garbageEvent = "data: {\"choices\":[{\"index\":0,\"delta\":{\"cont\n\n"
	errorEvent   = `data: {"error": {"message": "` + engineDied + `", "type": "InternalServerError", "param": null, "code": 500}}` + "\n\n"
)

const jsonType = "application/json"

// head is what the objects of an answer begin with.
type head struct {
	prefix, id    string
	object, chunk string // object of a plain answer, of an event
	created       int64
	model         string
}

// append appends the members, and the beginning of choices.
func (h *head) append(b []byte, object string) []byte {
	b = append(b, `{"id":"`...)
	b = append(b, h.prefix...)
	b = appendEscaped(b, h.id)
	b = append(b, `","object":"`...)
	b = append(b, object...)
	b = append(b, `","created":`...)
	b = strconv.AppendInt(b, h.created, 10)
	b = append(b, `,"model":`...)
	b = appendQuoted(b, h.model)
	return append(b, `,"choices":[`...)
}

// shape is the text around what differs between chunks, for one endpoint.
type shape struct {
	open    string // from the index to the text
	reason  string // from the text to the finish_reason
	more    string // after finish_reason, unless it is the last chunk
	last    string // after finish_reason of the last chunk
	details string // after the counts of a usage that rides on a chunk
}

func shapeOf(chat bool) shape {
	if chat {
		return shape{
			open:    `,"delta":{"content":"`,
			reason:  `"},"logprobs":null,"finish_reason":`,
			more:    `,"token_ids":null}]`,
			last:    `,"stop_reason":null,"token_ids":null}]`,
			details: `,"completion_tokens_details":null`,
		}
	}
	const rest = `,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}]`
	return shape{open: `,"text":"`, reason: `","logprobs":null,"finish_reason":`, more: rest, last: rest}
}

// riding is the usage that rides on chunks.
type riding int

const (
	ridesNever  riding = iota
	ridesTotals        // of the choice so far, on each chunk
	ridesFinish        // on the last chunk of the choice
	ridesZeros
)

// wire renders an answer in the shape of an endpoint. What it returns is valid until
// the next call.
type wire interface {
	// begin sends what comes before the first chunk.
	begin(choices []choice, send func(event []byte) error) error
	// chunk returns the next event of a choice, with count tokens.
	chunk(c *choice, count int64, last bool) []byte
	// end sends what comes after the last chunk, without the end itself unless done.
	// It tells whether the usage of the whole answer was sent.
	end(e *Entry, done bool, send func(event []byte) error) (usageSent bool, err error)
	// ridesLast tells whether usage is sent with the last chunk of each choice.
	ridesLast() bool
	// failure is the event of an engine that dies, and what comes after it.
	failure() (event, after []byte)
	// plain returns the whole answer, its content type, and whether it has usage.
	plain(choices []choice, e *Entry) (body []byte, mime string, usage bool)
}

// choicesWire is the wire of chats, completions and transcripts.
type choicesWire struct {
	chat    bool
	head    head
	shape   shape
	pad     string
	rides   riding
	final   bool    // a usage event ends the stream
	usage   bool    // a plain answer has usage
	opening []byte  // of an event, up to the choices
	last    *choice // that was ended, where the wire of another endpoint needs it
	buf     []byte
}

func newChoicesWire(chat bool, s *Script, r *request, h head) *choicesWire {
	w := &choicesWire{chat: chat, head: h, shape: shapeOf(chat), usage: s.Usage != UsageNever}
	w.pad = padding(s)
	w.opening = h.append([]byte("data: "), h.chunk)
	switch s.Usage {
	case UsageNever:
	case UsageChunks:
		w.rides, w.final = ridesTotals, true
	case UsageZeros:
		w.rides, w.final = ridesZeros, true
	case UsageFinish:
		w.rides = ridesFinish
	default:
		w.final = r.usage
		if r.usage && r.continuous {
			w.rides = ridesTotals
		}
	}
	return w
}

// role returns the event that opens a choice of a chat.
func (w *choicesWire) role(c *choice) []byte {
	b := append(w.buf[:0], w.opening...)
	b = append(b, `{"index":`...)
	b = strconv.AppendInt(b, c.index, 10)
	b = append(b, `,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]`...)
	b = w.appendRiding(b, c, 0, false)
	w.buf = append(b, `,"prompt_token_ids":null,"prompt_text":null}`+"\n\n"...)
	return w.buf
}

func (w *choicesWire) begin(choices []choice, send func([]byte) error) error {
	for i := range choices {
		if !w.chat {
			break
		}
		if err := send(w.role(&choices[i])); err != nil {
			return err
		}
	}
	return nil
}

func (w *choicesWire) end(e *Entry, done bool, send func([]byte) error) (usageSent bool, err error) {
	if w.final {
		if err := send(w.usageEvent(e.Prompt, e.Completion)); err != nil {
			return false, err
		}
	}
	if done {
		err = send([]byte(doneEvent))
	}
	return w.final, err
}

func (w *choicesWire) ridesLast() bool { return w.rides == ridesFinish }

func (w *choicesWire) failure() (event, after []byte) { return []byte(errorEvent), []byte(doneEvent) }

func (w *choicesWire) chunk(c *choice, count int64, last bool) []byte {
	b := append(w.buf[:0], w.opening...)
	b = append(b, `{"index":`...)
	b = strconv.AppendInt(b, c.index, 10)
	b = append(b, w.shape.open...)
	b = w.appendText(b, c, c.done, count)
	b = append(b, w.shape.reason...)
	if last {
		b = appendQuoted(b, c.finish)
		b = append(b, w.shape.last...)
	} else {
		b = append(b, "null"...)
		b = append(b, w.shape.more...)
	}
	b = w.appendRiding(b, c, c.done+count, last)
	if last && !w.final {
		b = append(b, ","+fingerprint...)
	}
	w.buf = append(b, "}\n\n"...)
	return w.buf
}

// usageEvent returns the event without choices.
func (w *choicesWire) usageEvent(prompt, completion int64) []byte {
	b := append(w.buf[:0], w.opening...)
	b = append(b, "]"...)
	b = appendUsage(b, prompt, completion, "")
	w.buf = append(b, ","+fingerprint+"}\n\n"...)
	return w.buf
}

func (w *choicesWire) plain(choices []choice, e *Entry) (body []byte, mime string, usage bool) {
	b := w.head.append(w.buf[:0], w.head.object)
	for i := range choices {
		if i > 0 {
			b = append(b, ',')
		}
		b = w.appendChoice(b, &choices[i])
	}
	b = append(b, `],"service_tier":null,`+fingerprint...)
	if w.usage {
		b = appendUsage(b, e.Prompt, e.Completion, `,"prompt_tokens_details":null,"completion_tokens_details":null`)
	}
	if w.chat {
		b = append(b, `,"prompt_logprobs":null,"prompt_token_ids":null,"prompt_text":null`...)
	}
	w.buf = append(b, `,"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}`...)
	return w.buf, jsonType, w.usage
}

// appendChoice appends a choice of a plain answer: the text is that of its
// chunks.
func (w *choicesWire) appendChoice(b []byte, c *choice) []byte {
	b = append(b, `{"index":`...)
	b = strconv.AppendInt(b, c.index, 10)
	if w.chat {
		b = append(b, `,"message":{"role":"assistant","content":"`...)
	} else {
		b = append(b, `,"text":"`...)
	}
	b = w.appendWhole(b, c)
	if w.chat {
		b = append(b, `","refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null},"logprobs":null,"finish_reason":`...)
		b = appendQuoted(b, c.finish)
		return append(b, `,"stop_reason":null,"token_ids":null,"routed_experts":null}`...)
	}
	b = append(b, `","logprobs":null,"finish_reason":`...)
	b = appendQuoted(b, c.finish)
	return append(b, `,"stop_reason":null,"token_ids":null,"prompt_logprobs":null,"prompt_token_ids":null,"routed_experts":null}`...)
}

// appendWhole appends the text of a choice, which is that of its chunks, without its
// quotes.
func (w *choicesWire) appendWhole(b []byte, c *choice) []byte {
	for step := range c.steps() {
		from := step * c.per
		b = w.appendText(b, c, from, min(c.per, c.total-from))
	}
	return b
}

// padding is what a script adds to each chunk.
func padding(s *Script) string { return strings.Repeat("x", int(s.Pad)) }

// appendText appends the text of a chunk, without its quotes.
func (w *choicesWire) appendText(b []byte, c *choice, from, count int64) []byte {
	for i := range count {
		gap, token := c.source.token(from + i)
		if gap {
			b = append(b, ' ')
		}
		b = appendEscaped(b, token)
	}
	return append(b, w.pad...)
}

// appendRiding appends the usage that rides on a chunk, with which the choice
// has done tokens.
func (w *choicesWire) appendRiding(b []byte, c *choice, done int64, last bool) []byte {
	switch {
	case w.rides == ridesTotals, w.rides == ridesFinish && last:
		return appendUsage(b, c.prompt, done, w.shape.details)
	case w.rides == ridesZeros:
		return appendUsage(b, 0, 0, w.shape.details)
	default:
		return b
	}
}

func appendUsage(b []byte, prompt, completion int64, details string) []byte {
	b = append(b, `,"usage":{"prompt_tokens":`...)
	b = strconv.AppendInt(b, prompt, 10)
	b = append(b, `,"total_tokens":`...)
	b = strconv.AppendInt(b, prompt+completion, 10)
	b = append(b, `,"completion_tokens":`...)
	b = strconv.AppendInt(b, completion, 10)
	b = append(b, details...)
	return append(b, '}')
}

// renderModels returns the body of /v1/models.
func renderModels(models []Model, now time.Time) []byte {
	b := []byte(`{"object":"list","data":[`)
	for i, m := range models {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"id":`...)
		b = appendQuoted(b, m.Name)
		b = append(b, `,"object":"model","created":`...)
		b = strconv.AppendInt(b, now.Unix(), 10)
		b = append(b, `,"owned_by":"simulator","root":`...)
		b = appendQuoted(b, m.Name)
		b = append(b, `,"parent":null,"max_model_len":`...)
		if m.Context > 0 {
			b = strconv.AppendInt(b, m.Context, 10)
		} else {
			b = append(b, "null"...)
		}
		b = append(b, '}')
	}
	return append(b, "]}"...)
}

// randomID is 16 hexadecimal digits, as vLLM gives.
func randomID() string {
	var raw [8]byte
	binary.BigEndian.PutUint64(raw[:], rand.Uint64())
	return hex.EncodeToString(raw[:])
}

func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	b = appendEscaped(b, s)
	return append(b, '"')
}

// appendEscaped appends s as the inside of a JSON string, which like Python's is
// UTF-8 without escapes where none are needed.
func appendEscaped(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	start := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
	}
	return append(b, s[start:]...)
}
