package openai

import (
	"slices"
	"strconv"
)

// Edit says what to change in a request. The zero Edit changes nothing.
type Edit struct {
	Model        string // the model to ask for instead; "" keeps the client's
	MaxTokens    int64  // written as the endpoint's limit when above 0 and the client gave none
	AtMost       int64  // a larger limit of the client's is lowered to it, when above 0
	CacheSalt    string // what tells prompts of one tenant in the engine's cache from those of others; "" adds nothing
	IncludeUsage bool   // ask for usage, if the answer is streamed and would have none (vLLM refuses it otherwise)
}

// Apply returns the body with e applied: every byte that e does not concern is
// as it came. When nothing changes that is body itself, otherwise a new slice.
// body must be the one that was parsed, and stays as it is.
func (r *Request) Apply(body []byte, e Edit) []byte {
	if r.boundary != "" {
		return r.applyForm(body, e)
	}
	var list [5]splice
	splices := list[:0]
	if e.Model != "" && e.Model != r.Model {
		splices = append(splices, splice{at: r.place("model", r.model), text: e.Model, kind: quotedText})
	}
	if limit := r.Endpoint.limitMember(); e.MaxTokens > 0 && r.MaxTokens == 0 && limit != "" {
		splices = append(splices, splice{at: r.place(limit, r.maxTokens), number: e.MaxTokens, kind: integer})
	}
	if e.AtMost > 0 && r.MaxTokens > e.AtMost {
		for _, value := range []span{r.maxTokens, r.maxCompletion} {
			if value != (span{}) {
				splices = append(splices, splice{at: place{span: value}, number: e.AtMost, kind: integer})
			}
		}
	}
	if e.CacheSalt != "" && r.Endpoint.salted() {
		splices = append(splices, splice{at: r.place("cache_salt", r.cacheSalt), text: e.CacheSalt, kind: quotedText})
	}
	if e.IncludeUsage && r.AsksForUsage() {
		splices = append(splices, r.usageSplice(body))
	}
	if len(splices) == 0 {
		return body
	}
	return r.splice(body, splices)
}

// place is where a value goes: over the one there is, or, with its name, to the
// beginning of an object.
type place struct {
	span
	name  string // set if the member has to be added
	comma bool   // the object has members already
}

// place returns where the value of a top-level member goes.
func (r *Request) place(name string, value span) place {
	if value != (span{}) {
		return place{span: value}
	}
	start := r.body.start
	return place{span{start, start}, name, r.members > 0}
}

// usageSplice returns the splice that sets stream_options.include_usage.
func (r *Request) usageSplice(body []byte) splice {
	switch {
	case r.includeUsage != span{}:
		return splice{at: place{span: r.includeUsage}, text: "true"}
	case r.options != span{}:
		start := r.options.start
		inner := cursor{b: r.options.of(body)}
		at := place{span{start, start}, "include_usage", !inner.done()}
		return splice{at: at, text: "true"}
	default:
		return splice{at: r.place("stream_options", r.streamOptions), text: `{"include_usage":true}`}
	}
}

// splice is a new value and its place.
type splice struct {
	at     place
	kind   kind
	text   string
	number int64
}

// kind is how a new value is written.
type kind uint8

const (
	rawText kind = iota
	quotedText
	integer
)

// splice returns a copy of body with the splices made.
func (r *Request) splice(body []byte, splices []splice) []byte {
	// Stable, because several members may be added at the same place.
	slices.SortStableFunc(splices, func(a, b splice) int { return a.at.start - b.at.start })
	size := len(body)
	for i := range splices {
		size += splices[i].maxSize()
	}
	out := make([]byte, 0, size)
	from := 0
	for i := range splices {
		s := &splices[i]
		out = append(out, body[from:s.at.start]...)
		out = s.appendTo(out)
		follows := i+1 < len(splices) && splices[i+1].at.start == s.at.start
		if s.at.name != "" && (s.at.comma || follows) {
			out = append(out, ',')
		}
		from = s.at.end
	}
	return append(out, body[from:]...)
}

// maxSize returns a bound on how many bytes s adds.
func (s *splice) maxSize() int {
	const escaped = 6                 // a byte as \u001f
	const punctuation = len(`"":"",`) // around a name and a value
	const digits = 20
	return len(s.at.name) + len(s.text)*escaped + punctuation + digits
}

// appendTo appends what stands in the place afterwards, but for the comma.
func (s *splice) appendTo(dst []byte) []byte {
	if s.at.name != "" {
		dst = append(appendQuoted(dst, s.at.name), ':')
	}
	switch s.kind {
	case quotedText:
		dst = appendQuoted(dst, s.text)
	case integer:
		dst = strconv.AppendInt(dst, s.number, 10)
	default:
		dst = append(dst, s.text...)
	}
	return dst
}
