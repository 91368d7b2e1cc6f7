package openai

// turns reads the messages of Anthropic's dialect.
func (c *cursor) turns(yield func([]byte)) (turns, parts int) {
	if !c.enter('[') {
		return 0, 0
	}
	for c.element() {
		turns++
		if !c.enter('{') {
			continue
		}
		for c.member() {
			if string(c.key) == "content" {
				parts += c.blocks(yield)
			} else {
				c.skip()
			}
		}
	}
	return turns, parts
}

// blocks reads a text, or a list of blocks.
func (c *cursor) blocks(yield func([]byte)) (parts int) {
	if c.peek() != '[' {
		c.yieldText(yield)
		return 0
	}
	c.enter('[')
	for c.element() {
		parts += c.block(yield)
	}
	return parts
}

// block reads one block: text, thinking, a tool that is used or what it answered. It
// returns how many parts of it are not text: one that has a source is one.
func (c *cursor) block(yield func([]byte)) (parts int) {
	if c.peek() == '"' {
		c.yieldText(yield)
		return 0
	}
	if !c.enter('{') {
		return 1
	}
	for c.member() {
		switch string(c.key) {
		case "text", "thinking", "name":
			c.yieldText(yield)
		case "input":
			c.yieldRaw(yield)
		case "content":
			parts += c.blocks(yield)
		case "source":
			parts++
			c.skip()
		default:
			c.skip()
		}
	}
	return parts
}

// items reads the input of a response: a text, or a list of messages, calls and
// their outputs.
func (c *cursor) items(yield func([]byte)) (items, parts int) {
	if c.peek() != '[' {
		c.yieldText(yield)
		return 1, 0
	}
	c.enter('[')
	for c.element() {
		items++
		parts += c.item(yield)
	}
	return items, parts
}

func (c *cursor) item(yield func([]byte)) (parts int) {
	if !c.enter('{') {
		return 0
	}
	for c.member() {
		switch string(c.key) {
		case "content", "output", "summary":
			parts += c.content(yield)
		case "name", "arguments", "input":
			c.yieldText(yield)
		default:
			c.skip()
		}
	}
	return parts
}

// texts reads what is compared: a text, an object that has one, or a list of
// either.
func (c *cursor) texts(yield func([]byte)) (texts, parts int) {
	if c.peek() != '[' {
		return 1, c.document(yield)
	}
	c.enter('[')
	for c.element() {
		texts++
		parts += c.document(yield)
	}
	return texts, parts
}

// document reads a text, or an object with a text or a list of parts.
func (c *cursor) document(yield func([]byte)) (parts int) {
	if c.peek() == '"' {
		c.yieldText(yield)
		return 0
	}
	if !c.enter('{') {
		return 0
	}
	for c.member() {
		switch string(c.key) {
		case "text":
			c.yieldText(yield)
		case "content":
			parts += c.content(yield)
		default:
			c.skip()
		}
	}
	return parts
}

// yieldRaw yields the next value as it stands.
func (c *cursor) yieldRaw(yield func([]byte)) {
	if raw := c.raw(); len(raw) > 0 && yield != nil {
		yield(raw)
	}
}
