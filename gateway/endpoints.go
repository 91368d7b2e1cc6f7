package gateway

import (
	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/ratelimit"
)

// parse reads the body of a call: JSON, or a form.
func (c *Call) parse(body []byte) (openai.Request, *openai.Error) {
	if c.Endpoint.Form() {
		return openai.ParseForm(c.Endpoint, c.ContentType, body)
	}
	return openai.ParseRequest(c.Endpoint, body)
}

// countedBy are those of the rules that a call is counted by: one that has tokens
// counted takes none itself, and is not refused for want of any.
func (c *Call) countedBy(all *rules) *rules {
	if c.Endpoint != openai.CountTokens {
		return all
	}
	return &rules{exchange: withoutTokens(all.exchange), attempt: withoutTokens(all.attempt)}
}

// withoutTokens are the rules that count requests.
func withoutTokens(all []rule) (some []rule) {
	for _, r := range all {
		if u := r.limit.Unit; u == ratelimit.Requests || u == ratelimit.Concurrency {
			some = append(some, r)
		}
	}
	return some
}

// countable tells whether anything of an answer is counted in tokens. Audio is where
// the upstream says so, and is not estimated: it is counted in seconds.
func (c *Call) countable(r reading) bool {
	return c.Endpoint != openai.CountTokens && (r.known || !c.Endpoint.Form())
}

// teaches tells whether what an upstream counts of a prompt, and of an answer, is of
// the text that was seen. Texts that are compared are read more than once, a response
// may go on from an earlier one, and of a message some thinking may be hidden.
func (c *Call) teaches() (prompt, answer bool) {
	switch c.Endpoint {
	case openai.ChatCompletions, openai.Completions:
		return true, true
	case openai.Messages, openai.Embeddings:
		return true, false
	case openai.Responses:
		return false, true
	default:
		return false, false
	}
}

// inDialect has an error answered as the client of the call expects it.
func (x *Exchange) inDialect(e *openai.Error) *openai.Error {
	return e.For(x.call.Endpoint, x.call.RequestID)
}

// dialectHeaders are more headers that the client's SDK looks for.
func (x *Exchange) dialectHeaders() []openai.Header {
	if !x.call.Endpoint.Anthropic() || x.call.RequestID == "" {
		return nil
	}
	return []openai.Header{{Name: openai.HeaderRequestID, Value: x.call.RequestID}}
}
