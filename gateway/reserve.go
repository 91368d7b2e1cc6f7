package gateway

import (
	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/tokens"
)

// unknownOutput is what is reserved for an answer whose length nobody bounds.
const unknownOutput = 4096

// amounts is how much of each unit an exchange takes.
type amounts struct{ input, output int64 }

// of is the amount of one unit.
func (a amounts) of(u ratelimit.Unit) int64 {
	var n int64
	switch u {
	case ratelimit.Requests, ratelimit.Concurrency:
		return 1
	case ratelimit.Tokens:
		n = a.input + a.output
	case ratelimit.InputTokens:
		n = a.input
	case ratelimit.OutputTokens:
		n = a.output
	}
	return min(n, ratelimit.MaxAmount)
}

// estimate counts what is known of the prompt. answers is how many prompts there
// are to answer.
func (x *Exchange) estimate(r *openai.Request, body []byte) (answers int64) {
	if r.Endpoint == openai.CountTokens || r.Endpoint.Form() {
		return 1
	}
	p := &x.prompt
	inputs, parts, ids := r.PromptText(body, p.Text.Add)
	p.Parts, p.TokenIDs, p.Tools = parts, ids, r.Tools(body)
	answers = 1
	switch r.Endpoint {
	case openai.Completions:
		answers = int64(max(1, inputs))
	case openai.Embeddings:
	default:
		p.Messages = inputs
	}
	x.input = saturatedSum(x.g.guesses.Prompt(x.model.Name, p), x.comparedWith(r, body, inputs))
	return answers
}

// comparedWith counts what so many texts are compared with: one for all is read with
// each.
func (x *Exchange) comparedWith(r *openai.Request, body []byte, texts int) int64 {
	var q tokens.Prompt
	queries, parts := r.QueryText(body, q.Text.Add)
	if queries == 0 {
		return 0
	}
	q.Parts = parts
	n := x.g.guesses.Prompt(x.model.Name, &q)
	if queries > 1 || texts == 0 {
		return n
	}
	return saturated(int64(texts), max(1, n))
}

// withMargin adds what an estimate may miss.
func withMargin(input int64) int64 { return input + (input*15+99)/100 }

// reservation is the most that an exchange is expected to take: the prompt with
// a margin for what the estimate misses, and every answer at its full length.
func reservation(r *openai.Request, m config.Model, input, choices int64) amounts {
	input = withMargin(input)
	if !r.Endpoint.HasOutput() {
		return amounts{input: input}
	}
	perChoice := r.MaxTokens
	if perChoice == 0 {
		perChoice = m.MaxOutput
	}
	if perChoice == 0 {
		perChoice = unknownOutput
	}
	if m.Context > 0 {
		perChoice = min(perChoice, m.Context)
	}
	return amounts{input: input, output: saturated(perChoice, choices)}
}

// cost is what a rule charges before a call.
func (x *Exchange) cost(r *rule) int64 {
	if r.limit.Unit != ratelimit.Tokens && r.limit.Unit != ratelimit.OutputTokens {
		return x.reserved.of(r.limit.Unit)
	}
	a := x.reserved
	switch r.reserve {
	case config.ReserveFixed:
		a.output = min(a.output, r.fixed)
	case config.ReserveLearned:
		if p95, ok := x.g.lengths.p95(x.key.ID, x.model.Name); ok {
			a = amounts{input: x.input, output: min(a.output, saturated(max(1, p95), x.choices))}
		}
	case config.ReserveMax:
	}
	n := a.of(r.limit.Unit)
	if x.unbounded && x.choices == 1 && n > r.limit.Max {
		// What weir took for an answer of no known length is no reason to refuse it: it
		// is given all of the limit, and what it takes beyond is owed.
		n = max(r.limit.Max, amounts{input: a.input}.of(r.limit.Unit))
	}
	return n
}

// saturatedSum adds amounts up to the largest there is.
func saturatedSum(a, b int64) int64 { return min(a+b, ratelimit.MaxAmount) }

// saturated multiplies positive numbers up to the largest amount there is.
func saturated(a, b int64) int64 {
	if a > ratelimit.MaxAmount/b {
		return ratelimit.MaxAmount
	}
	return a * b
}
