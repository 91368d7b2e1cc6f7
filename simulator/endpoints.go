package simulator

import (
	"encoding/json"
	"errors"
)

// The endpoints, by path.
const (
	pathChat           = "/v1/chat/completions"
	pathCompletions    = "/v1/completions"
	pathResponses      = "/v1/responses"
	pathMessages       = "/v1/messages"
	pathCountTokens    = "/v1/messages/count_tokens"
	pathEmbeddings     = "/v1/embeddings"
	pathRerank         = "/v1/rerank"
	pathScore          = "/v1/score"
	pathTranscriptions = "/v1/audio/transcriptions"
	pathTranslations   = "/v1/audio/translations"
)

// responseInput reads the prompt of a response: a text counts as a message, and so
// do instructions.
func (m members) responseInput() (p prompt, instructions string, err error) {
	if _, ok := m["input"]; !ok {
		return p, "", invalid("body.input", "missing", "Field required")
	}
	if err := m.read("instructions", &instructions, "string_type", "string"); err != nil {
		return p, "", err
	}
	if instructions != "" {
		p.tokens = messageTokens + countTokens(instructions)
	}
	var text string
	if json.Unmarshal(m["input"], &text) == nil {
		p.tokens += messageTokens + countTokens(text)
		p.last, p.turns = text, 1
		return p, instructions, nil
	}
	said, err := members{"messages": m["input"]}.conversation()
	said.tokens += p.tokens
	return said, instructions, err
}

// messageInput reads the prompt of a message: system counts as one more.
func (m members) messageInput() (p prompt, err error) {
	if raw, ok := m["max_tokens"]; !ok || string(raw) == "null" {
		return p, invalid("body.max_tokens", "missing", "Field required")
	}
	return m.messagesWithSystem()
}

func (m members) messagesWithSystem() (p prompt, err error) {
	p, err = m.conversation()
	if raw, ok := m["system"]; ok && string(raw) != "null" {
		p.tokens += messageTokens + countTokens(contentText(raw))
	}
	return p, err
}

// prepareNumbers reads the body of a request that is answered with numbers.
func (x *exchange) prepareNumbers(body []byte) error {
	m, err := parseBody(body)
	if err != nil {
		return err
	}
	r := &request{n: 1}
	x.req = r
	if err := m.read("model", &r.model, "string_type", "string"); err != nil {
		return err
	}
	n := numbers{}
	switch x.r.URL.Path {
	case pathCountTokens:
		var p prompt
		p, err = m.messagesWithSystem()
		n.counted = p.tokens
	case pathEmbeddings:
		err = n.readEmbeddings(m)
	case pathRerank:
		err = n.readPairs(m, [][2]string{{"query", "documents"}})
	default:
		err = n.readPairs(m, [][2]string{{"queries", "documents"}, {"queries", "items"}, {"data_1", "data_2"}, {"text_1", "text_2"}})
	}
	if err != nil {
		return err
	}
	model, err := x.choose(r)
	if err != nil {
		return err
	}
	for _, tokens := range n.tokens {
		x.entry.Prompt += tokens
		if model.Context > 0 && tokens > model.Context {
			return tooLong(model.Context)
		}
	}
	x.wire = &numbersWire{numbers: n, path: x.r.URL.Path, head: x.head(model.Name, "embd-"), usage: x.script.Usage != UsageNever}
	return nil
}

// numbers are what a request for numbers is answered from.
type numbers struct {
	tokens     []int64 // of each text, or pair of texts
	documents  []string
	dimensions int64
	base64     bool
	counted    int64 // of a prompt that is only counted
}

// readEmbeddings reads the texts to embed.
func (n *numbers) readEmbeddings(m members) error {
	n.dimensions = 8
	var format string
	err := errors.Join(
		m.integer("dimensions", &n.dimensions),
		m.read("encoding_format", &format, "literal_error", "'float' or 'base64'"),
	)
	if err != nil {
		return err
	}
	if n.dimensions < 1 || n.dimensions > maxPad {
		return badRequest("dimensions", "dimensions must be at least 1 and at most %d, got %d.", maxPad, n.dimensions)
	}
	n.base64 = format == "base64"
	if _, chat := m["messages"]; chat {
		p, err := m.conversation()
		n.tokens = []int64{p.tokens}
		return err
	}
	prompts, err := parsePrompts(m["input"])
	if err != nil {
		return badRequest("", "You must pass at least one prompt")
	}
	for _, p := range prompts {
		n.tokens = append(n.tokens, p.tokens)
	}
	return nil
}

// readPairs reads texts to compare, which go by one of several pairs of names. Each
// pair is read as a whole, as a cross encoder does: one query that is compared with
// many texts is read with each.
func (n *numbers) readPairs(m members, names [][2]string) error {
	for _, pair := range names {
		queries, documents := textsOf(m[pair[0]]), textsOf(m[pair[1]])
		if queries == nil || documents == nil {
			continue
		}
		if len(queries) != 1 && len(queries) != len(documents) {
			return badRequest("", "Input lengths must be either 1:1, 1:N or N:N")
		}
		for i, d := range documents {
			q := queries[min(i, len(queries)-1)]
			n.tokens = append(n.tokens, countTokens(q)+countTokens(d))
		}
		n.documents = documents
		return nil
	}
	for _, name := range names[0] {
		if textsOf(m[name]) == nil {
			return invalid("body."+name, "missing", "Field required")
		}
	}
	return nil
}

// textsOf reads a text, an object with one, or a list of either; nil if it is none.
func textsOf(raw json.RawMessage) []string {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		list = []json.RawMessage{raw}
	}
	var texts []string
	for _, item := range list {
		var text string
		var object struct{ Text string }
		switch {
		case json.Unmarshal(item, &text) == nil:
		case json.Unmarshal(item, &object) == nil:
			text = object.Text
		default:
			return nil
		}
		texts = append(texts, text)
	}
	return texts
}
