package openai

// PromptText calls yield with each piece of text that the model will read: the
// contents of strings as they stand in the body, still JSON-escaped, and the
// raw JSON of tools, functions and schemas. body must be the one that was parsed.
//
// It returns how many messages a conversation has, how many prompts a completion,
// each of which is answered, or how many texts there are to embed or compare; how
// many parts of them are not text (images, audio: their data is not yielded); and
// how many tokens were given as ids instead of text.
//
// What texts are compared with is left to QueryText, and of a form nothing is read.
func (r *Request) PromptText(body []byte, yield func(raw []byte)) (inputs, parts, tokenIDs int) {
	if r.boundary != "" {
		return 0, 0, 0
	}
	c := cursor{b: r.prompt.of(body)}
	switch r.Endpoint {
	case ChatCompletions:
		inputs, parts = c.messages(yield)
	case Messages, CountTokens:
		inputs, parts = c.turns(yield)
	case Responses:
		inputs, parts = c.items(yield)
	case Rerank, Score:
		inputs, parts = c.texts(yield)
	default:
		inputs, tokenIDs = c.prompts(yield)
	}
	if r.chat != (span{}) {
		c := cursor{b: r.chat.of(body)}
		n, more := c.messages(yield)
		inputs, parts = inputs+n, parts+more
	}
	if r.system != (span{}) {
		c := cursor{b: r.system.of(body)}
		parts += c.content(yield)
	}
	for _, s := range [...]span{r.tools, r.functions, r.form} {
		if s != (span{}) {
			yield(s.of(body))
		}
	}
	return inputs, parts, tokenIDs
}

// QueryText calls yield with each piece of what texts are compared with, and
// returns how many there are: one that each text is compared with, or one for
// each. It is 0 where nothing is compared.
func (r *Request) QueryText(body []byte, yield func(raw []byte)) (queries, parts int) {
	if r.query == (span{}) {
		return 0, 0
	}
	c := cursor{b: r.query.of(body)}
	return c.texts(yield)
}

// messages reads the messages of a chat.
func (c *cursor) messages(yield func([]byte)) (messages, parts int) {
	if !c.enter('[') {
		return 0, 0
	}
	for c.element() {
		messages++
		parts += c.message(yield)
	}
	return messages, parts
}

func (c *cursor) message(yield func([]byte)) (parts int) {
	if !c.enter('{') {
		return 0
	}
	for c.member() {
		switch string(c.key) {
		case "content":
			parts += c.content(yield)
		case "name", "refusal", "reasoning", "reasoning_content":
			c.yieldText(yield)
		case "tool_calls":
			c.toolCalls(yield)
		case "function_call":
			c.function(yield)
		default:
			c.skip()
		}
	}
	return parts
}

// content reads a text, or a list of parts.
func (c *cursor) content(yield func([]byte)) (parts int) {
	if c.peek() != '[' {
		c.yieldText(yield)
		return 0
	}
	c.enter('[')
	for c.element() {
		if !c.part(yield) {
			parts++
		}
	}
	return parts
}

// part reads one part and reports whether it is text.
func (c *cursor) part(yield func([]byte)) (isText bool) {
	if c.peek() == '"' {
		c.yieldText(yield)
		return true
	}
	if !c.enter('{') {
		return false
	}
	for c.member() {
		switch string(c.key) {
		case "text", "refusal":
			isText = true
			c.yieldText(yield)
		default:
			c.skip()
		}
	}
	return isText
}

// toolCalls reads the calls of a message, or those of a streamed delta.
func (c *cursor) toolCalls(yield func([]byte)) {
	if !c.enter('[') {
		return
	}
	for c.element() {
		if !c.enter('{') {
			continue
		}
		for c.member() {
			if string(c.key) == "function" {
				c.function(yield)
			} else {
				c.skip()
			}
		}
	}
}

// function reads the name and the arguments of a call.
func (c *cursor) function(yield func([]byte)) {
	if !c.enter('{') {
		return
	}
	for c.member() {
		switch string(c.key) {
		case "name", "arguments":
			c.yieldText(yield)
		default:
			c.skip()
		}
	}
}

// yieldText yields the next value if it is a string that is not empty.
func (c *cursor) yieldText(yield func([]byte)) {
	if raw := c.text(); len(raw) > 0 && yield != nil {
		yield(raw)
	}
}

// prompts reads the prompt of a completion: a string, token ids, or a list of
// either.
func (c *cursor) prompts(yield func([]byte)) (prompts, tokenIDs int) {
	if c.peek() != '[' {
		if c.peek() == '"' {
			prompts = 1
		}
		c.yieldText(yield)
		return prompts, 0
	}
	c.enter('[')
	for c.element() {
		switch b := c.peek(); {
		case b == '"':
			prompts++
			c.yieldText(yield)
		case b == '[':
			prompts++
			tokenIDs += c.tokenIDs()
		case isDigit(b):
			prompts = max(prompts, 1)
			tokenIDs++
			c.skip()
		default:
			c.skip()
		}
	}
	return prompts, tokenIDs
}

// tokenIDs counts the numbers in an array.
func (c *cursor) tokenIDs() (n int) {
	if !c.enter('[') {
		return 0
	}
	for c.element() {
		if isDigit(c.peek()) {
			n++
		}
		c.skip()
	}
	return n
}
