package openai

// Tools is how many tools and functions a request defines. body must be the one that
// was parsed.
func (r *Request) Tools(body []byte) (n int) {
	for _, s := range [...]span{r.tools, r.functions} {
		c := cursor{b: s.of(body)}
		if s == (span{}) || !c.enter('[') {
			continue
		}
		for c.element() {
			n++
			c.skip()
		}
	}
	return n
}
