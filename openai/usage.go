package openai

// maxTokens is the largest count taken for one: an upstream that reports more
// is mistaken, and what it reports is ignored.
const maxTokens = 1_000_000_000

// Usage is what an upstream says a request took, in tokens. Cached tokens are
// part of Input and reasoning tokens part of Output: never add them.
type Usage struct {
	Input     int64 // prompt_tokens, input_tokens
	Output    int64 // completion_tokens, output_tokens
	Cached    int64 // prompt_tokens_details.cached_tokens
	Reasoning int64 // completion_tokens_details.reasoning_tokens
}

// usage reads the usage object at the cursor. It reports false for anything
// that is not one, or is not sane: at least one of the two counts must be there
// (absent is not zero), and each that is must be an integer from 0 to 10⁹.
// Details that are not sane count as 0.
func (c *cursor) usage() (u Usage, ok bool) {
	if !c.enter('{') {
		return Usage{}, false
	}
	counts, sane := 0, true
	count := func(n *int64) {
		v, given, ok := c.count()
		if given {
			counts++
			*n = v
		}
		sane = sane && ok
	}
	for c.member() {
		switch string(c.key) {
		case "prompt_tokens", "input_tokens":
			count(&u.Input)
		case "completion_tokens", "output_tokens":
			count(&u.Output)
		case "prompt_tokens_details", "input_tokens_details":
			u.Cached = c.countIn("cached_tokens")
		case "completion_tokens_details", "output_tokens_details":
			u.Reasoning = c.countIn("reasoning_tokens")
		default:
			c.skip()
		}
	}
	if c.broken || !sane || counts == 0 {
		return Usage{}, false
	}
	return u, true
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
