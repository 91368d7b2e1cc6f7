package openai

import (
	"bytes"
	"slices"
)

// chunk reads the data of one event and reports whether it is a bare report of
// usage: an object with an empty array of choices, a usage object and no error.
func (s *EventStream) chunk(text []byte) (bare bool) {
	c := &cursor{b: text}
	var v event
	if !c.enter('{') {
		return false
	}
	for c.member() {
		switch string(c.key) {
		case "choices":
			v.hasChoices = c.peek() == '['
			v.choices = s.choices(c, &v)
		case "usage":
			v.hasUsage = c.peek() == '{'
			v.note(c, s.Endpoint)
		case "x_groq":
			v.noteIn(c, s.Endpoint)
		case "error":
			if string(c.raw()) != "null" {
				v.failed = true
			}
		case "type":
			v.transcript = s.Endpoint.Form() && string(c.text()) == "transcript.text.done"
		case "delta":
			s.transcript(c)
		default:
			c.skip()
		}
	}
	if v.choices > 0 {
		s.events++
	}
	s.done = s.done || v.transcript
	s.failed = s.failed || v.failed
	if v.counted {
		s.tally.add(v)
	}
	return v.hasChoices && v.choices == 0 && v.hasUsage && !v.failed && c.done()
}

// event is what one event says.
type event struct {
	hasChoices bool // choices is an array
	choices    int  // how many it has
	index      int  // of the last choice
	hasUsage   bool // usage is an object
	failed     bool // error is there and not null
	transcript bool // it is the last of a transcript
	counted    bool // some usage is sane, and this is the last of them:
	usage      Usage
}

// note reads a usage object at the cursor.
func (v *event) note(c *cursor, ep Endpoint) {
	if r, ok := c.usage(ep); ok {
		v.usage, v.counted = r.Usage, true
	}
}

// noteIn reads the usage inside the object at the cursor.
func (v *event) noteIn(c *cursor, ep Endpoint) {
	if !c.enter('{') {
		return
	}
	for c.member() {
		if string(c.key) == "usage" {
			v.note(c, ep)
		} else {
			c.skip()
		}
	}
}

// choices reads the array of choices and returns how many it has.
func (s *EventStream) choices(c *cursor, v *event) (n int) {
	if !c.enter('[') {
		return 0
	}
	for c.element() {
		n++
		s.choice(c, v)
	}
	return n
}

func (s *EventStream) choice(c *cursor, v *event) {
	if !c.enter('{') {
		return
	}
	v.index = 0
	for c.member() {
		switch string(c.key) {
		case "delta":
			s.delta(c)
		case "text":
			c.yieldText(s.Text)
		case "index":
			n, _ := parseInt(c.scalar(), maxTokens)
			v.index = int(n)
		case "finish_reason":
			s.finish(c.text())
		case "usage":
			v.note(c, s.Endpoint)
		default:
			c.skip()
		}
	}
}

// delta reads what a chat's choice has grown by.
func (s *EventStream) delta(c *cursor) {
	if !c.enter('{') {
		return
	}
	var reasoning []byte
	for c.member() {
		switch string(c.key) {
		case "content", "refusal":
			c.yieldText(s.Text)
		case "reasoning", "reasoning_content":
			// Some servers send the same text under both names.
			text := c.text()
			if s.Text != nil && len(text) > 0 && !bytes.Equal(text, reasoning) {
				s.Text(text)
			}
			reasoning = text
		case "tool_calls":
			c.toolCalls(s.Text)
		case "function_call":
			c.function(s.Text)
		default:
			c.skip()
		}
	}
}

// maxIndex bounds the choices that usage is kept for one by one.
const maxIndex = 128

// tally is the usage seen in a stream, see EventStream for the rule.
type tally struct {
	whole    Usage // of an event without choices
	hasWhole bool
	byChoice []Usage // by index of the choice
}

// add notes the usage of an event.
func (t *tally) add(v event) {
	if v.choices == 0 {
		t.whole, t.hasWhole = v.usage, true
		return
	}
	i := min(v.index, maxIndex-1)
	for len(t.byChoice) <= i {
		t.byChoice = append(t.byChoice, Usage{})
	}
	t.byChoice[i] = v.usage
}

// usage is that of all. Each prompt has so many choices, or all are of one if that is
// 0; choices of one prompt all tell its tokens.
func (t *tally) usage(perPrompt int) (Usage, bool) {
	if t.hasWhole || len(t.byChoice) == 0 {
		return t.whole, t.hasWhole
	}
	if perPrompt <= 0 {
		perPrompt = len(t.byChoice)
	}
	var sum Usage
	for choices := range slices.Chunk(t.byChoice, perPrompt) {
		var prompt Usage
		for _, u := range choices {
			prompt.Input = max(prompt.Input, u.Input)
			prompt.Cached = max(prompt.Cached, u.Cached)
			sum.Output += u.Output
			sum.Reasoning += u.Reasoning
		}
		sum.Input += prompt.Input
		sum.Cached += prompt.Cached
	}
	return sum, true
}
