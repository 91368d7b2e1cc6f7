package openai

import "math/bits"

// Extensions are members of a request by which engines go beyond OpenAI's API: a set,
// of those that change what a request costs, or that touch what is not its client's.
type Extensions uint32

// extensions are their names, in the order of their bits.
var extensions = [...]string{
	// What they cost is not told by max_tokens.
	"use_beam_search", "prompt_logprobs", "prompt_embeds",
	// The engine's own business, or that of other clients.
	"priority", "request_id", "cache_salt", "kv_transfer_params", "vllm_xargs",
	"chat_template", "mm_processor_kwargs", "truncate_prompt_tokens",
}

// AllExtensions is the set of all.
const AllExtensions = Extensions(1<<len(extensions) - 1)

// ExtensionNames are the names of all.
func ExtensionNames() []string { return extensions[:] }

// ExtensionOf is the set that holds the one of that name alone; it is empty if there is
// none.
func ExtensionOf(name string) Extensions {
	for i, n := range extensions {
		if n == name {
			return 1 << i
		}
	}
	return 0
}

// First is the name of one in the set, "" if it is empty.
func (s Extensions) First() string {
	if s == 0 {
		return ""
	}
	return extensions[bits.TrailingZeros32(uint32(s))]
}

// extension notes that a member of that name has a value other than null and false.
func (p *parser) extension() bool {
	start := p.i
	e := ExtensionOf(string(p.param.of(p.b)))
	if first := p.peek(); first != 'n' && first != 'f' {
		p.r.Extensions |= e
	}
	ok := p.value(1)
	if extensions[bits.TrailingZeros32(uint32(e))] == "cache_salt" {
		p.r.cacheSalt = span{start, p.i}
	}
	return ok
}

// logprobs reads how many alternatives of each token are to be told. For chats
// "logprobs" only says whether.
func (p *parser) logprobs(m member) bool {
	switch {
	case m == memberLogprobs && p.r.Endpoint == ChatCompletions:
		var on bool
		return p.boolean(&on)
	case p.r.Endpoint.usageOnRequest(), m == memberTopLogprobs && p.r.Endpoint == Responses:
		return p.integerFrom(0, &p.r.Logprobs)
	default:
		return p.value(1)
	}
}
