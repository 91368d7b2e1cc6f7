package simulator

import (
	"bytes"
	"errors"
	"io"
	"math"
	"mime"
	"mime/multipart"
	"strconv"
)

const (
	// bytesPerSecond is how much of a file is taken for a second: 16 bits of one
	// channel at 16 kHz.
	bytesPerSecond = 32_000
	// audioTokens is what a second counts for, where a stream reports tokens.
	audioTokens = 50
)

// prepareAudio reads a form, and decides what will be heard in its file.
func (x *exchange) prepareAudio(body []byte) error {
	fields, file, err := readForm(x.r.Header.Get("Content-Type"), body)
	if err != nil {
		return err
	}
	r := &request{n: 1, model: fields["model"], stream: fields["stream"] == "true", usage: fields["stream_include_usage"] == "true"}
	if r.usage && !r.stream {
		return badRequest("stream_include_usage", "Stream options can only be defined when `stream=True`. (parameter=stream_include_usage)")
	}
	x.req = r
	x.entry.IncludeUsage = r.usage
	x.entry.Seconds = math.Ceil(float64(file) / bytesPerSecond)
	model, err := x.choose(r)
	if err != nil {
		return err
	}
	r.prompts = []prompt{{tokens: int64(x.entry.Seconds) * audioTokens, last: fields["prompt"], turns: 1}}
	if err := x.addChoices(model.Context); err != nil {
		return err
	}
	h := x.head(model.Name, "trsc-")
	h.chunk = "transcription.chunk"
	if x.r.URL.Path == pathTranslations {
		h.prefix, h.chunk = "trsl-", "translation.chunk"
	}
	x.wire = &audioWire{choicesWire: newChoicesWire(true, &x.script, r, h), format: fields["response_format"], prompt: r.prompts[0].tokens}
	return nil
}

// readForm reads the fields of a form, and how long its file is.
func readForm(contentType string, body []byte) (fields map[string]string, file int, err error) {
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, 0, badRequest("", "Missing boundary in multipart.")
	}
	fields = map[string]string{}
	file = -1
	for r := multipart.NewReader(bytes.NewReader(body), params["boundary"]); ; {
		part, err := r.NextPart()
		switch {
		case errors.Is(err, io.EOF) && file < 0:
			return nil, 0, invalid("body.file", "missing", "Field required")
		case errors.Is(err, io.EOF):
			return fields, file, nil
		case err != nil:
			return nil, 0, badRequest("", "There was an error parsing the body")
		}
		text, err := io.ReadAll(part)
		if err != nil {
			return nil, 0, badRequest("", "There was an error parsing the body")
		}
		if part.FormName() == "file" {
			file = len(text)
		} else {
			fields[part.FormName()] = string(text)
		}
	}
}

// audioWire is the wire of what was heard: streamed as a chat, in tokens; plain with
// its duration.
type audioWire struct {
	*choicesWire
	format string
	prompt int64
}

func (w *audioWire) begin([]choice, func([]byte) error) error { return nil }

func (w *audioWire) end(e *Entry, done bool, send func([]byte) error) (usageSent bool, err error) {
	if w.final {
		e.Prompt = w.prompt
	}
	return w.choicesWire.end(e, done, send)
}

func (w *audioWire) plain(choices []choice, e *Entry) (body []byte, mime string, usage bool) {
	seconds := strconv.FormatFloat(e.Seconds, 'f', -1, 64)
	e.Completion = 0 // is not told
	b := w.appendWhole(nil, &choices[0])
	switch w.format {
	case "text", "srt", "vtt":
		return b, "text/plain; charset=utf-8", false
	case "verbose_json":
		return []byte(`{"duration":"` + seconds + `","language":"en","text":"` + string(b) + `","segments":[],"words":null}`), jsonType, true
	}
	if !w.usage {
		return []byte(`{"text":"` + string(b) + `"}`), jsonType, false
	}
	return []byte(`{"text":"` + string(b) + `","usage":{"type":"duration","seconds":` + seconds + `}}`), jsonType, true
}
