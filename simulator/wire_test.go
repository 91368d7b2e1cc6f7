package simulator

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// recording is an answer of vLLM.
func recording(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../openai/testdata/wire/vllm-0.32.0", file))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// skeleton is the JSON text with types in the place of values: names, order and
// nesting stay.
func skeleton(t *testing.T, text string) string {
	t.Helper()
	var b strings.Builder
	d := json.NewDecoder(strings.NewReader(text))
	for {
		token, err := d.Token()
		if err != nil {
			return b.String()
		}
		switch v := token.(type) {
		case json.Delim:
			b.WriteString(v.String())
		case string:
			// Names and the few values that are fixed.
			if slices.Contains([]string{"length", "assistant"}, v) || strings.HasPrefix(v, "chat.completion") || strings.Contains(text, `"`+v+`":`) {
				fmt.Fprintf(&b, " %s", v)
			} else {
				b.WriteString(" string")
			}
		case nil:
			b.WriteString(" null")
		default:
			fmt.Fprintf(&b, " %T", v)
		}
	}
}

// shapes returns the different shapes of the events of a stream, in the order in
// which they first come.
func shapes(t *testing.T, body string) (all []string) {
	t.Helper()
	for _, data := range events(t, body) {
		s := data
		if data != "[DONE]" {
			s = skeleton(t, data)
		}
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// Streams have the shapes that vLLM's have, member by member.
func TestStreamShapes(t *testing.T) {
	const usage = `,"stream_options":{"include_usage":true}`
	const continuous = `,"stream_options":{"include_usage":true,"continuous_usage_stats":true}`
	tests := map[string]struct{ path, body string }{
		"chat-stream-nousage.sse":         {chatPath, `{` + hello},
		"chat-stream-usage-false.sse":     {chatPath, `{"stream_options":{"include_usage":false},` + hello},
		"chat-stream-options-empty.sse":   {chatPath, `{"stream_options":{},` + hello},
		"chat-stream-continuous-only.sse": {chatPath, `{"stream_options":{"continuous_usage_stats":true},` + hello},
		"chat-stream-continuous.sse":      {chatPath, `{` + hello + continuous},
		"chat-stream-n2-usage.sse":        {chatPath, `{"n":2,` + hello + usage},
		"comp-stream-nousage.sse":         {completionPath, `{"prompt":"a b"`},
		"comp-stream-usage.sse":           {completionPath, `{"prompt":"a b"` + usage},
		"comp-stream-continuous.sse":      {completionPath, `{"prompt":"a b"` + continuous},
		"comp-multi-n2-stream.sse":        {completionPath, `{"n":2,"prompt":["a b","c"]` + continuous},
	}
	b := start(t, "tokens=20")
	for file, test := range tests {
		t.Run(file, func(t *testing.T) {
			got := b.post(t, test.path, test.body+`,"max_tokens":5,"stream":true}`)
			if media := got.header.Get("Content-Type"); media != "text/event-stream; charset=utf-8" {
				t.Errorf("content-type %q", media)
			}
			if diff := cmp.Diff(shapes(t, recording(t, file)), shapes(t, got.body)); diff != "" {
				t.Errorf("(-vLLM +simulator):\n%s", diff)
			}
		})
	}
}

func TestPlainShapes(t *testing.T) {
	tests := map[string]struct{ path, body string }{
		"chat-nonstream.json": {chatPath, `{` + hello},
		"chat-n2.json":        {chatPath, `{"n":2,` + hello},
		"comp-nonstream.json": {completionPath, `{"prompt":"a b"`},
	}
	b := start(t, "tokens=20")
	for file, test := range tests {
		t.Run(file, func(t *testing.T) {
			got := b.post(t, test.path, test.body+`,"max_tokens":5}`)
			if diff := cmp.Diff(skeleton(t, recording(t, file)), skeleton(t, got.body)); diff != "" {
				t.Errorf("(-vLLM +simulator):\n%s", diff)
			}
		})
	}
}

// Errors whose text is known are vLLM's to the byte.
func TestErrorBytes(t *testing.T) {
	tests := map[string]struct{ path, body string }{
		"err-404.json":                             {"/v1/nothing", `{}`},
		"err-max_tokens-zero.json":                 {chatPath, `{"max_tokens":0,` + hello + `}`},
		"err-max_tokens-negative.json":             {chatPath, `{"max_tokens":-1,` + hello + `}`},
		"err-max_tokens-too-large.json":            {chatPath, `{"max_tokens":100000,` + hello + `}`},
		"err-max_completion_tokens-too-large.json": {chatPath, `{"max_completion_tokens":100000,` + hello + `}`},
		"err-messages-empty.json":                  {chatPath, `{"messages":[]}`},
		"err-prompt-missing.json":                  {completionPath, `{"model":"tiny"}`},
		"err-prompt-bit-too-long.json":             {completionPath, `{"prompt":"` + strings.Repeat("a ", 2049) + `"}`},
		"err-prompt-equals-ctx.json":               {completionPath, `{"prompt":"` + strings.Repeat("a ", 2048) + `"}`},
		"err-stream_options-streamfalse.json":      {chatPath, `{"stream":false,"stream_options":{},` + hello + `}`},
		"err-unknown-model-comp.json":              {completionPath, `{"model":"nope","prompt":"a"}`},
	}
	b := startWith(t, Options{Models: []Model{{Name: "tiny", Context: 2048}}})
	for file, test := range tests {
		t.Run(file, func(t *testing.T) {
			got := b.post(t, test.path, test.body)
			if diff := cmp.Diff(recording(t, file), got.body); diff != "" {
				t.Errorf("(-vLLM +simulator):\n%s", diff)
			}
		})
	}
}

// The ID of an answer is made of the request's, whatever that is.
func TestAnswerID(t *testing.T) {
	b := start(t, "tokens=1")
	for _, id := range []string{"abc-123", `say "hi" \ `} {
		want := "chatcmpl-" + strings.TrimSpace(id)
		if got := decode(t, b.post(t, chatPath, `{`+hello+`}`, "X-Request-Id", id).body); got.ID != want {
			t.Errorf("plain: id %q, want %q", got.ID, want)
		}
		body := b.post(t, chatPath, `{"stream":true,`+hello+`}`, "X-Request-Id", id).body
		if got := decode(t, events(t, body)[0]); got.ID != want {
			t.Errorf("stream: id %q, want %q", got.ID, want)
		}
	}
	got := decode(t, b.post(t, completionPath, `{"prompt":"a"}`).body)
	if len(got.ID) != len("cmpl-0123456789abcdef") || got.Model != "m" || got.Created == 0 {
		t.Errorf("id %q, model %q, created %d", got.ID, got.Model, got.Created)
	}
}
