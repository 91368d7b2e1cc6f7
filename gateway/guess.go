package gateway

import "github.com/weir-gateway/weir/tokens"

// leastTold is how many tokens a text must have for the error of its estimate to say
// something.
const leastTold = 64

// guess is how many tokens a text has that the model has generated, in so many pieces:
// by its words once the model's tokenizer was learned, by what else is known of the
// upstream's streams before that. A piece is a token at least.
func (x *Exchange) guess(pieces int64, text *tokens.Features) int64 {
	if _, learned := x.g.guesses.Taught(x.model.Name); !learned {
		if n, known := x.g.sizes.inText(x.kind(), pieces, text.Bytes()); known {
			return max(pieces, n)
		}
	}
	return max(pieces, x.g.guesses.Completion(x.model.Name, text))
}

// learn compares estimates with what the upstream has counted of a whole answer, and
// has the estimator learn from it. Only text that was seen, all of it and nothing else,
// teaches anything.
func (x *Exchange) learn(r *reading) {
	if x.served() != x.model.Name {
		return // another model, which was fallen back to
	}
	prompt, answer := x.call.teaches()
	if n := r.usage.Input; prompt && n >= leastTold && x.prompt.Parts == 0 {
		x.g.metrics.Estimated("prompt", x.input, n)
		x.g.guesses.LearnPrompt(x.model.Name, &x.prompt, n)
	}
	m, read := x.meter.(*streamMeter)
	if n := r.usage.Output; read && answer && n >= leastTold && x.choices == 1 && r.usage.Reasoning == 0 && m.events.Oversize() == 0 {
		x.g.metrics.Estimated("completion", r.estimate, n)
		x.g.guesses.LearnCompletion(x.model.Name, &m.text, n)
	}
}
