package simulator

// defaultTokens is how many tokens an endless text is given.
const defaultTokens = 16

// choice is one of the texts that a request asks for.
type choice struct {
	index  int64
	prompt int64 // tokens of its prompt
	source source
	per    int64  // tokens of a chunk
	total  int64  // tokens it will have
	done   int64  // tokens that were sent
	finish string // finish_reason
	over   bool   // its last chunk was sent
}

// newChoice plans choice index, of at most limit tokens; 0 is no limit.
func newChoice(s *Script, p prompt, index, limit int64) choice {
	source, own := newSource(s.Text, p, index)
	c := choice{index: index, prompt: p.tokens, source: source, per: max(s.Per, 1), total: s.Tokens, finish: "stop"}
	switch {
	case s.Tokens < 0:
		c.total = 0
	case s.Tokens == 0 && own > 0:
		c.total = own
	case s.Tokens == 0:
		c.total = defaultTokens
	}
	if limit > 0 && c.total > limit {
		c.total, c.finish = limit, "length"
	}
	return c
}

// steps is how many chunks the choice has. Without tokens it is one, for the
// finish_reason.
func (c *choice) steps() int64 {
	return max(1, (c.total+c.per-1)/c.per)
}

// next is how many tokens the next chunk has, and whether it is the last.
func (c *choice) next() (count int64, last bool) {
	count = min(c.per, c.total-c.done)
	return count, c.done+count == c.total
}

// generated is how many tokens there are after so many steps.
func (c *choice) generated(steps int64) int64 {
	return min(c.total, steps*c.per)
}
