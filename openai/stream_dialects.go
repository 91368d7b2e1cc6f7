package openai

import "bytes"

// response reads the data of one event of a response:
//
//	response.*.delta      delta is text that was generated
//	response.completed    the end, as are response.incomplete and response.failed;
//	                      response.usage is the whole answer's
//	error                 a failure
//
// https://platform.openai.com/docs/api-reference/responses-streaming
func (s *EventStream) response(text []byte) {
	c := &cursor{b: text}
	if !c.enter('{') {
		return
	}
	var kind, delta []byte
	for c.member() {
		switch string(c.key) {
		case "type":
			kind = c.text()
		case "delta":
			delta = c.text()
		case "response":
			s.wholeIn(c)
		case "error":
			s.failed = string(c.raw()) != "null" || s.failed
		default:
			c.skip()
		}
	}
	switch string(kind) {
	case "response.completed", "response.incomplete":
		s.done, s.finished = true, true
	case "response.failed":
		s.done, s.failed = true, true
	case "error":
		s.failed = true
	case "response.audio.delta": // sound
	default:
		if bytes.HasSuffix(kind, []byte(".delta")) && len(delta) > 0 {
			s.yield(delta)
		}
	}
}

// message reads the data of one event of a message:
//
//	message_start         message.usage is that of the prompt
//	content_block_start   content_block.name is that of a tool
//	content_block_delta   delta is text that was generated
//	message_delta         delta.stop_reason, and the usage of all that came so far
//	message_stop          the end
//	error                 a failure
//
// https://docs.anthropic.com/en/docs/build-with-claude/streaming
func (s *EventStream) message(text []byte) {
	c := &cursor{b: text}
	if !c.enter('{') {
		return
	}
	for c.member() {
		switch string(c.key) {
		case "type":
			switch string(c.text()) {
			case "message_stop":
				s.done = true
			case "error":
				s.failed = true
			}
		case "message":
			s.wholeIn(c)
		case "content_block", "delta":
			s.block(c)
		case "usage":
			s.whole(c)
		case "error":
			s.failed = string(c.raw()) != "null" || s.failed
		default:
			c.skip()
		}
	}
}

// block reads what a block of a message begins with, or has grown by.
func (s *EventStream) block(c *cursor) {
	if !c.enter('{') {
		return
	}
	for c.member() {
		switch string(c.key) {
		case "text", "thinking", "partial_json", "name":
			if text := c.text(); len(text) > 0 {
				s.yield(text)
			}
		case "stop_reason":
			s.finish(c.text())
		default:
			c.skip()
		}
	}
}

// transcript reads what a transcript has grown by, in OpenAI's own dialect.
func (s *EventStream) transcript(c *cursor) {
	if text := c.text(); s.Endpoint.Form() && len(text) > 0 {
		s.yield(text)
	}
}

// yield hands out text that was generated.
func (s *EventStream) yield(text []byte) {
	s.events++
	if s.Text != nil {
		s.Text(text)
	}
}

// wholeIn reads the usage inside the object at the cursor.
func (s *EventStream) wholeIn(c *cursor) {
	if !c.enter('{') {
		return
	}
	for c.member() {
		if string(c.key) == "usage" {
			s.whole(c)
		} else {
			c.skip()
		}
	}
}

// whole reads a usage object that is the whole answer's. What it gives replaces what
// was given before, so that counts that grow are not added up; what it does not give
// stays.
func (s *EventStream) whole(c *cursor) {
	r, ok := c.usage(s.Endpoint)
	if !ok {
		return
	}
	t := &s.tally
	t.hasWhole = true
	if r.input {
		t.whole.Input, t.whole.Cached = r.Input, r.Cached
	}
	if r.output {
		t.whole.Output, t.whole.Reasoning = r.Output, r.Reasoning
	}
}
