package openai

// part is what a member is of a prompt.
type part string

const (
	promptPart part = "prompt"
	chatPart   part = "chat" // a prompt in the place of the usual one
	queryPart  part = "query"
)

// What the value of such a member must be.
const (
	wantArray = "an array"
	wantTexts = "a string or an array"
	wantAny   = "a string, an array or an object"
)

// reads returns which part of the prompt a member is at the endpoint, and what its
// value must be; "" for a member that is none, and need not be understood.
func (e Endpoint) reads(m member) (kind part, want string) {
	switch {
	case m == memberMessages && (e == ChatCompletions || e.Anthropic()):
		return promptPart, wantArray
	case m == memberMessages && e == Embeddings:
		return chatPart, wantArray
	case m == memberPrompt && e == Completions, m == memberInput && (e == Embeddings || e == Responses):
		return promptPart, wantTexts
	case m == memberQuery && (e == Rerank || e == Score):
		return queryPart, wantAny
	case m == memberDocuments && (e == Rerank || e == Score):
		return promptPart, wantAny
	}
	return "", ""
}

// prompt reads a member that is part of the prompt.
func (p *parser) prompt(kind part, want string) bool {
	start, at := p.i, &p.r.prompt
	switch kind {
	case chatPart:
		at = &p.r.chat
	case queryPart:
		at = &p.r.query
	case promptPart:
	}
	switch b := p.peek(); {
	case b == '[', b == '"' && want != wantArray, b == '{' && want == wantAny:
	default:
		return p.wrongType(want)
	}
	if *at != (span{}) {
		return p.fail(CodeDuplicate, "'%s' at byte %d says again what another parameter has said. Send one of them.", p.paramName(), start)
	}
	ok := p.value(1)
	*at = span{start, p.i}
	return ok
}

// limit reads a bound on the answer's tokens, where it is one.
func (p *parser) limit(m member, start int) bool {
	name := p.r.Endpoint.limitMember()
	mine := m == memberMaxTokens && name == "max_tokens" ||
		m == memberMaxOutputTokens && name == "max_output_tokens" ||
		m == memberMaxCompletionTokens && p.r.Endpoint.usageOnRequest()
	if !mine {
		return p.value(1)
	}
	ok := p.integer(&p.r.MaxTokens)
	if m != memberMaxCompletionTokens {
		p.r.maxTokens = span{start, p.i}
	} else {
		p.r.maxCompletion = span{start, p.i}
	}
	return ok
}

// choices reads how many answers are wanted, or generated to choose from, where it
// means that.
func (p *parser) choices(n *int64) bool {
	if p.r.Endpoint.usageOnRequest() {
		return p.integer(n)
	}
	return p.value(1)
}

// background refuses answers that nobody waits for: what they take is known only
// to who asks for them later, under a path that is not served here.
func (p *parser) background() bool {
	if p.r.Endpoint != Responses {
		return p.value(1)
	}
	start, on := p.i, false
	if !p.boolean(&on) {
		return false
	}
	return !on || p.fail(CodeInvalidValue, "Invalid value for 'background' at byte %d: responses in the background are not served here. Leave it out, and set 'stream' to true for long answers.", start)
}

// complete checks that what the endpoint needs is there.
func (p *parser) complete() bool {
	p.r.Stream = p.r.Stream && p.r.Endpoint.streams()
	ep, prompt := p.r.Endpoint, p.r.prompt != span{}
	switch {
	case ep == Unknown:
		return true
	case ep == Rerank && p.r.query == span{}:
		return p.missing("query", "a string")
	case ep == Score && p.r.query == span{}:
		return p.missing("text_1", "a string or an array")
	case ep == Embeddings && p.r.chat != span{}:
		return true
	case !prompt && (ep == ChatCompletions || ep.Anthropic()):
		return p.missing("messages", "an array of messages")
	case !prompt && ep == Rerank:
		return p.missing("documents", "an array of texts")
	case !prompt:
		return p.missing(ep.promptMember(), "a string or an array")
	case ep == Messages && p.r.MaxTokens == 0:
		return p.missing("max_tokens", "the most tokens that the answer may have")
	}
	return true
}

// missing refuses a body that lacks a member.
func (p *parser) missing(name, want string) bool {
	p.fail(CodeMissingParameter, "Missing required parameter: '%s'. Send %s.", name, want)
	p.err.Param = name
	return false
}
