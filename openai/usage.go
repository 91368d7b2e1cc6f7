package openai

import "strconv"

// maxTokens is the largest count taken for one: an upstream that reports more
// is mistaken, and what it reports is ignored.
const maxTokens = 1_000_000_000

// Usage is what an upstream says a request took, in tokens. Cached tokens are
// part of Input and reasoning tokens part of Output: never add them.
//
// Anthropic's dialect counts otherwise: tokens that were read from the cache, or
// written to it, are outside input_tokens there. They are added when it is read, so
// that Input is the whole prompt here too, and Cached, what was read, a part of it.
type Usage struct {
	Input     int64   // prompt_tokens, input_tokens; total_tokens where nothing else is said
	Output    int64   // completion_tokens, output_tokens
	Cached    int64   // prompt_tokens_details.cached_tokens, cache_read_input_tokens
	Reasoning int64   // completion_tokens_details.reasoning_tokens
	Seconds   float64 // seconds: how long the audio was
}

// report is a usage object as it was read.
type report struct {
	Usage
	input, output, seconds bool // which of them it gives
}

// usage reads the usage object at the cursor, of an answer of ep. It reports false
// for anything that is not one, or is not sane: at least one count must be there
// (absent is not zero), and each that is must be an integer from 0 to 10⁹, or for
// seconds a number from 0 to 10⁷. Details that are not sane count as 0.
func (c *cursor) usage(ep Endpoint) (r report, ok bool) {
	if !c.enter('{') {
		return report{}, false
	}
	sane := true
	count := func(n *int64, has *bool) {
		v, given, ok := c.count()
		if given {
			*n, *has = v, true
		}
		sane = sane && ok
	}
	var total, written int64
	var hasTotal bool
	for c.member() {
		switch string(c.key) {
		case "prompt_tokens", "input_tokens":
			count(&r.Input, &r.input)
		case "completion_tokens", "output_tokens":
			count(&r.Output, &r.output)
		case "total_tokens":
			var ok bool
			total, hasTotal, ok = c.count()
			hasTotal = hasTotal && ok
		case "seconds":
			r.Seconds, r.seconds = c.seconds()
			sane = sane && r.seconds || !ep.Form()
		case "prompt_tokens_details", "input_tokens_details":
			r.Cached = c.countIn("cached_tokens")
		case "completion_tokens_details", "output_tokens_details":
			r.Reasoning = c.countIn("reasoning_tokens")
		case "cache_read_input_tokens":
			c.countOutside(ep, &r.Cached)
		case "cache_creation_input_tokens":
			c.countOutside(ep, &written)
		default:
			c.skip()
		}
	}
	if r.input && ep.Anthropic() {
		r.Input = min(r.Input+r.Cached+written, maxTokens)
	}
	if hasTotal && !r.input && !r.output && !ep.HasOutput() {
		r.Input, r.input = total, true
	}
	if c.broken || !sane || !r.input && !r.output && !r.seconds {
		return report{}, false
	}
	return r, true
}

// countOutside reads a count that is outside the input in Anthropic's dialect.
// Others that have it mean a part of what they count elsewhere.
func (c *cursor) countOutside(ep Endpoint, n *int64) {
	v, given, ok := c.count()
	if given && ok && ep.Anthropic() {
		*n = v
	}
}

// maxSeconds is the longest audio taken for one.
const maxSeconds = 1e7

// seconds reads a duration: a number, or one in quotes.
func (c *cursor) seconds() (s float64, ok bool) {
	var raw []byte
	if c.peek() == '"' {
		raw = c.text()
	} else {
		raw = c.scalar()
	}
	s, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || !(s >= 0 && s <= maxSeconds) {
		return 0, false
	}
	return s, true
}

// count reads a number of tokens. A null is sane, but not given.
func (c *cursor) count() (n int64, given, sane bool) {
	raw := c.scalar()
	if string(raw) == "null" {
		return 0, false, true
	}
	n, ok := parseInt(raw, maxTokens)
	return n, ok, ok
}

// countIn reads the count called name in the object at the cursor, 0 if there
// is none.
func (c *cursor) countIn(name string) (n int64) {
	if !c.enter('{') {
		return 0
	}
	for c.member() {
		if string(c.key) == name {
			n, _, _ = c.count()
		} else {
			c.skip()
		}
	}
	return n
}

// parseInt reads a plain decimal integer from 0 to limit: no sign, fraction,
// exponent or leading zero. limit must be below 2⁵⁹.
func parseInt(raw []byte, limit int64) (int64, bool) {
	if len(raw) == 0 || len(raw) > 1 && raw[0] == '0' {
		return 0, false
	}
	var n int64
	for _, c := range raw {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
		if n > limit {
			return 0, false
		}
	}
	return n, true
}
