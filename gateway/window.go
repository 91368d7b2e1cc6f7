package gateway

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/openai"
)

// Parts of an estimate that are sure to be in the prompt: what the model's tokenizer
// has taught, and before that.
const (
	sureLearned = 0.65
	sureBefore  = 0.4
)

// largerModels is how many models an error names that have a larger window.
const largerModels = 3

// fit sees that a request fits into its model's context window. It refuses where that
// is sure not to be so: the upstream counts exactly, and has the last word on the rest.
// What a model clamps is lowered; atMost is the most tokens of an answer then, 0 if
// that is not bounded.
func (x *Exchange) fit(r *openai.Request, prompts int64) (atMost int64, err *openai.Error) {
	window := x.model.Context
	// Of several prompts each has the window to itself.
	if window == 0 || !r.Endpoint.HasOutput() || r.Endpoint == openai.Completions && prompts > 1 {
		return 0, nil
	}
	sure := sureBefore
	if learned, _ := x.g.guesses.Taught(x.model.Name); learned {
		sure = sureLearned
	}
	if float64(x.input)*sure > float64(window) {
		return 0, x.tooLong(r)
	}
	switch {
	case r.MaxTokens == 0:
		return 0, nil
	case x.model.Clamp && x.input+r.MaxTokens > window:
		return max(1, window-withMargin(x.input)), nil
	case r.MaxTokens > window:
		return 0, x.tooLong(r)
	}
	return 0, nil
}

// tooLong is in OpenAI's words, by which agents know that they have to shorten their
// history.
func (x *Exchange) tooLong(r *openai.Request) *openai.Error {
	var text strings.Builder
	fmt.Fprintf(&text, "This model's maximum context length is %d tokens. Your request has about %d input tokens (estimated)", x.model.Context, x.input)
	if r.MaxTokens > 0 {
		fmt.Fprintf(&text, " and asks for up to %d more", r.MaxTokens)
	}
	text.WriteString(". Shorten the " + r.PromptParam())
	if r.MaxTokens > x.model.Context {
		text.WriteString(", or ask for fewer tokens")
	}
	if larger := x.larger(x.input + r.MaxTokens); len(larger) > 0 {
		text.WriteString(", or use a model with a larger window: " + strings.Join(larger, ", "))
	}
	text.WriteString(".")
	return &openai.Error{
		Status: http.StatusBadRequest, Type: openai.TypeInvalidRequest, Code: openai.CodeContextLength, Param: r.PromptParam(),
		Message: text.String(), Detail: &openai.Detail{Estimate: x.input, Context: x.model.Context},
	}
}

// larger are the models of the key into which a request of so many tokens fits, those
// with the smallest window first.
func (x *Exchange) larger(tokens int64) (names []string) {
	fit := slices.DeleteFunc(slices.Clone(x.g.models.Table().Models()), func(m config.Model) bool {
		return m.Context < tokens || m.Context <= x.model.Context || !ModelAllowed(x.key, m)
	})
	slices.SortFunc(fit, func(a, b config.Model) int {
		return cmp.Or(cmp.Compare(a.Context, b.Context), cmp.Compare(a.Name, b.Name))
	})
	for _, m := range fit[:min(largerModels, len(fit))] {
		names = append(names, m.Name)
	}
	return names
}
