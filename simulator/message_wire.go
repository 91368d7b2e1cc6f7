package simulator

import "strconv"

// messageWire is the wire of messages, in Anthropic's dialect.
type messageWire struct {
	head  head
	usage bool
	text  choicesWire // appends text
	buf   []byte
}

func newMessageWire(s *Script, h head) *messageWire {
	return &messageWire{head: h, usage: s.Usage != UsageNever, text: choicesWire{pad: padding(s)}}
}

// event returns an event of that kind, with what follows the type in its data.
func (w *messageWire) event(kind, data string) []byte {
	b := append(append(w.buf[:0], "event: "...), kind...)
	b = append(append(b, "\ndata: {\"type\":\""...), kind...)
	w.buf = append(append(append(b, '"'), data...), "}\n\n"...)
	return w.buf
}

func (w *messageWire) begin(choices []choice, send func([]byte) error) error {
	b := w.appendHead([]byte(`,"message":`))
	b = appendQuoted(append(b, `"content":[],"model":`...), w.head.model)
	b = append(b, `,"stop_reason":null,"stop_sequence":null`...)
	b = append(w.appendUsage(b, choices[0].prompt, 0), '}')
	if err := send(w.event("message_start", string(b))); err != nil {
		return err
	}
	return send(w.event("content_block_start", `,"content_block":{"type":"text","text":""},"index":0`))
}

func (w *messageWire) chunk(c *choice, count int64, last bool) []byte {
	const kind = "content_block_delta"
	b := append(w.buf[:0], "event: "+kind+"\ndata: {\"type\":\""+kind+`","delta":{"type":"text_delta","text":"`...)
	w.buf = append(w.text.appendText(b, c, c.done, count), "\"},\"index\":0}\n\n"...)
	if last {
		w.text.last = c
	}
	return w.buf
}

func (w *messageWire) end(e *Entry, done bool, send func([]byte) error) (usageSent bool, err error) {
	if err := send(w.event("content_block_stop", `,"index":0`)); err != nil {
		return false, err
	}
	b := append([]byte(`,"delta":{"stop_reason":"`), stopReason(w.text.last)...)
	b = w.appendUsage(append(b, `","stop_sequence":null}`...), e.Prompt, e.Completion)
	if err := send(w.event("message_delta", string(b))); err != nil {
		return false, err
	}
	if done {
		err = send(w.event("message_stop", ""))
	}
	return w.usage, err
}

// stopReason is what ended an answer.
func stopReason(c *choice) string {
	if c.finish == "length" {
		return "max_tokens"
	}
	return "end_turn"
}

func (w *messageWire) ridesLast() bool { return false }

func (w *messageWire) failure() (event, after []byte) {
	return w.event("error", `,"error":{"type":"internal_error","message":"`+engineDied+`"}`), nil
}

func (w *messageWire) plain(choices []choice, e *Entry) (body []byte, mime string, usage bool) {
	c := &choices[0]
	b := w.appendHead(w.buf[:0])
	b = w.text.appendWhole(append(b, `"content":[{"type":"text","text":"`...), c)
	b = appendQuoted(append(b, `"}],"model":`...), w.head.model)
	b = append(append(append(b, `,"stop_reason":"`...), stopReason(c)...), '"')
	return append(w.appendUsage(b, e.Prompt, e.Completion), '}'), jsonType, w.usage
}

func (w *messageWire) appendHead(b []byte) []byte {
	b = appendEscaped(append(append(b, `{"id":"`...), w.head.prefix...), w.head.id)
	return append(b, `","type":"message","role":"assistant",`...)
}

func (w *messageWire) appendUsage(b []byte, prompt, completion int64) []byte {
	if !w.usage {
		return b
	}
	b = strconv.AppendInt(append(b, `,"usage":{"input_tokens":`...), prompt, 10)
	return append(strconv.AppendInt(append(b, `,"output_tokens":`...), completion, 10), '}')
}
