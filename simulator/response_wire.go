package simulator

import "strconv"

// responseWire is the wire of responses.
type responseWire struct {
	head         head
	instructions string
	max          int64
	usage        bool
	text         choicesWire // appends text
	sequence     int64       // of the next event
	buf          []byte
}

func newResponseWire(s *Script, r *request, h head) *responseWire {
	w := &responseWire{head: h, instructions: r.instructions, max: r.max, usage: s.Usage != UsageNever}
	w.text = choicesWire{pad: padding(s)}
	return w
}

// event begins an event of that kind with what its data begins with.
func (w *responseWire) event(kind, data string) []byte {
	b := append(append(append(w.buf[:0], "event: "...), kind...), "\ndata: {"...)
	return append(b, data...)
}

// finish ends an event.
func (w *responseWire) finish(b []byte, kind string) []byte {
	b = append(append(append(w.number(b), `,"type":"`...), kind...), "\"}\n\n"...)
	w.buf = b
	return b
}

// number appends the number of the event.
func (w *responseWire) number(b []byte) []byte {
	b = strconv.AppendInt(append(b, `,"sequence_number":`...), w.sequence, 10)
	w.sequence++
	return b
}

// item is the id of the only output.
func (w *responseWire) item() string { return "msg_" + w.head.id }

func (w *responseWire) begin(choices []choice, send func([]byte) error) error {
	for _, kind := range []string{"response.created", "response.in_progress"} {
		b := w.appendObject(w.event(kind, `"response":`), &choices[0], nil, "in_progress")
		if err := send(w.finish(b, kind)); err != nil {
			return err
		}
	}
	b := appendQuoted(w.event("response.output_item.added", `"item":{"id":`), w.item())
	b = append(b, `,"content":[],"role":"assistant","status":"in_progress","type":"message","phase":null},"output_index":0`...)
	if err := send(w.finish(b, "response.output_item.added")); err != nil {
		return err
	}
	b = appendQuoted(w.event("response.content_part.added", `"content_index":0,"item_id":`), w.item())
	b = append(b, `,"output_index":0,"part":{"annotations":[],"text":"","type":"output_text","logprobs":[]}`...)
	return send(w.finish(b, "response.content_part.added"))
}

func (w *responseWire) chunk(c *choice, count int64, last bool) []byte {
	const kind = "response.output_text.delta"
	b := w.text.appendText(w.event(kind, `"content_index":0,"delta":"`), c, c.done, count)
	b = appendQuoted(append(b, `","item_id":`...), w.item())
	b = w.finish(append(b, `,"logprobs":[],"output_index":0`...), kind)
	if last {
		w.text.last = c
	}
	return b
}

func (w *responseWire) end(e *Entry, done bool, send func([]byte) error) (usageSent bool, err error) {
	c := w.text.last
	b := appendQuoted(w.event("response.output_text.done", `"content_index":0,"item_id":`), w.item())
	b = w.text.appendWhole(append(w.number(append(b, `,"logprobs":[],"output_index":0`...)), `,"text":"`...), c)
	w.buf = append(b, "\",\"type\":\"response.output_text.done\"}\n\n"...)
	if err := send(w.buf); err != nil {
		return false, err
	}
	b = appendQuoted(w.event("response.content_part.done", `"content_index":0,"item_id":`), w.item())
	b = w.appendPart(append(b, `,"output_index":0,"part":`...), c)
	if err := send(w.finish(b, "response.content_part.done")); err != nil {
		return false, err
	}
	b = append(w.appendItem(w.event("response.output_item.done", `"item":`), c), `,"output_index":0`...)
	if err := send(w.finish(b, "response.output_item.done")); err != nil || !done {
		return false, err
	}
	b = w.appendObject(w.event("response.completed", `"response":`), c, e, status(c))
	err = send(w.finish(b, "response.completed"))
	return w.usage && err == nil, err
}

// status is that of a response that is over.
func status(c *choice) string {
	if c.finish == "length" {
		return "incomplete"
	}
	return "completed"
}

func (w *responseWire) ridesLast() bool { return false }

func (w *responseWire) failure() (event, after []byte) {
	const kind = "response.failed"
	b := append(w.event(kind, `"response":{"id":"`), w.head.prefix...)
	b = append(appendEscaped(b, w.head.id), `","object":"response","status":"failed","error":{"code":"server_error","message":"`...)
	b = append(append(b, engineDied...), `"},"usage":null}`...)
	return w.finish(b, kind), nil
}

func (w *responseWire) plain(choices []choice, e *Entry) (body []byte, mime string, usage bool) {
	return w.appendObject(w.buf[:0], &choices[0], e, status(&choices[0])), jsonType, w.usage
}

// appendObject appends the response, with its output and usage if e is not nil.
func (w *responseWire) appendObject(b []byte, c *choice, e *Entry, status string) []byte {
	b = appendEscaped(append(append(b, `{"id":"`...), w.head.prefix...), w.head.id)
	b = strconv.AppendInt(append(b, `","created_at":`...), w.head.created, 10)
	if status == "incomplete" {
		b = append(b, `,"incomplete_details":{"reason":"max_output_tokens"}`...)
	} else {
		b = append(b, `,"incomplete_details":null`...)
	}
	b = append(b, `,"instructions":`...)
	if w.instructions == "" {
		b = append(b, "null"...)
	} else {
		b = appendQuoted(b, w.instructions)
	}
	b = appendQuoted(append(b, `,"metadata":null,"model":`...), w.head.model)
	b = append(b, `,"object":"response","output":[`...)
	if e != nil {
		b = w.appendItem(b, c)
	}
	b = append(b, `],"parallel_tool_calls":true,"temperature":1.0,"tool_choice":"none","tools":[],"top_p":1.0,"background":false,"max_output_tokens":`...)
	if w.max > 0 {
		b = strconv.AppendInt(b, w.max, 10)
	} else {
		b = append(b, "null"...)
	}
	b = append(b, `,"max_tool_calls":null,"previous_response_id":null,"prompt":null,"reasoning":null,"service_tier":"auto","status":"`...)
	b = append(append(b, status...), `","text":null,"top_logprobs":null,"truncation":"disabled","usage":`...)
	b = w.appendUsage(b, e)
	return append(b, `,"user":null,"presence_penalty":0.0,"frequency_penalty":0.0,"kv_transfer_params":null,"ec_transfer_params":null,"input_messages":null,"output_messages":null}`...)
}

func (w *responseWire) appendUsage(b []byte, e *Entry) []byte {
	if e == nil || !w.usage {
		return append(b, "null"...)
	}
	b = strconv.AppendInt(append(b, `{"input_tokens":`...), e.Prompt, 10)
	b = append(b, `,"input_tokens_details":{"cached_tokens":0,"cache_write_tokens":0,"input_tokens_per_turn":[],"cached_tokens_per_turn":[]},"output_tokens":`...)
	b = strconv.AppendInt(b, e.Completion, 10)
	b = append(b, `,"output_tokens_details":{"reasoning_tokens":0,"tool_output_tokens":0,"output_tokens_per_turn":[],"tool_output_tokens_per_turn":[]},"total_tokens":`...)
	return append(strconv.AppendInt(b, e.Prompt+e.Completion, 10), '}')
}

// appendItem appends the only output.
func (w *responseWire) appendItem(b []byte, c *choice) []byte {
	b = appendQuoted(append(b, `{"id":`...), w.item())
	b = w.appendPart(append(b, `,"content":[`...), c)
	return append(b, `],"role":"assistant","status":"completed","type":"message","phase":null}`...)
}

func (w *responseWire) appendPart(b []byte, c *choice) []byte {
	b = w.text.appendWhole(append(b, `{"annotations":[],"text":"`...), c)
	return append(b, `","type":"output_text","logprobs":null}`...)
}
