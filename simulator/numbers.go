package simulator

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"strconv"
)

// numbersWire is the wire of answers that are numbers. They are never streamed.
type numbersWire struct {
	numbers
	path  string
	head  head
	usage bool
}

func (w *numbersWire) begin([]choice, func([]byte) error) error { return nil }
func (w *numbersWire) chunk(*choice, int64, bool) []byte        { return nil }
func (w *numbersWire) ridesLast() bool                          { return false }
func (w *numbersWire) failure() (event, after []byte)           { return []byte(errorEvent), nil }

func (w *numbersWire) end(*Entry, bool, func([]byte) error) (usageSent bool, err error) {
	return false, nil
}

func (w *numbersWire) plain(_ []choice, e *Entry) (body []byte, mime string, usage bool) {
	switch w.path {
	case pathCountTokens:
		b := strconv.AppendInt([]byte(`{"input_tokens":`), w.counted, 10)
		b = strconv.AppendInt(append(b, `,"context_management":{"original_input_tokens":`...), w.counted, 10)
		return append(b, "}}"...), jsonType, false
	case pathRerank:
		return w.ranking(e.Prompt), jsonType, w.usage
	default:
		return w.list(e.Prompt), jsonType, w.usage
	}
}

// list is the answer of embeddings and scores.
func (w *numbersWire) list(prompt int64) []byte {
	h := w.head
	if w.path == pathScore {
		h.prefix = "score-"
	}
	b := append([]byte(`{"id":"`), h.prefix...)
	b = append(appendEscaped(b, h.id), `","object":"list","created":`...)
	b = append(strconv.AppendInt(b, h.created, 10), `,"model":`...)
	b = append(appendQuoted(b, h.model), `,"data":[`...)
	for i := range w.tokens {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(append(b, `{"index":`...), int64(i), 10)
		if w.path == pathScore {
			b = append(b, `,"object":"score","score":`...)
			b = append(strconv.AppendFloat(b, w.number(i, 0), 'g', -1, 64), '}')
			continue
		}
		b = append(w.vector(append(b, `,"object":"embedding","embedding":`...), i), '}')
	}
	b = append(b, ']')
	if w.usage {
		b = appendUsage(b, prompt, 0, `,"prompt_tokens_details":null,"completion_tokens_details":null`)
	}
	return append(b, '}')
}

// vector appends the embedding of text i.
func (w *numbersWire) vector(b []byte, i int) []byte {
	if w.base64 {
		raw := make([]byte, 0, 4*w.dimensions)
		for k := range w.dimensions {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(w.number(i, k))))
		}
		return append(base64.StdEncoding.AppendEncode(append(b, '"'), raw), '"')
	}
	for k := range w.dimensions {
		c := byte(',')
		if k == 0 {
			c = '['
		}
		b = strconv.AppendFloat(append(b, c), w.number(i, k), 'g', -1, 64)
	}
	return append(b, ']')
}

// number is a number from -1 to 1 that is the same each time.
func (w *numbersWire) number(i int, k int64) float64 {
	return math.Sin(float64(w.tokens[i]) + float64(k)*0.7 + float64(i))
}

// ranking is the answer of rerank, in the order of the documents.
func (w *numbersWire) ranking(prompt int64) []byte {
	b := appendEscaped([]byte(`{"id":"score-`), w.head.id)
	b = appendQuoted(append(b, `","model":`...), w.head.model)
	if w.usage {
		b = strconv.AppendInt(append(b, `,"usage":{"prompt_tokens":`...), prompt, 10)
		b = append(strconv.AppendInt(append(b, `,"total_tokens":`...), prompt, 10), '}')
	}
	b = append(b, `,"results":[`...)
	for i, d := range w.documents {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(append(b, `{"index":`...), int64(i), 10)
		b = appendQuoted(append(b, `,"document":{"text":`...), d)
		b = strconv.AppendFloat(append(b, `,"multi_modal":null},"relevance_score":`...), w.number(i, 0), 'g', -1, 64)
		b = append(b, '}')
	}
	return append(b, "]}"...)
}
