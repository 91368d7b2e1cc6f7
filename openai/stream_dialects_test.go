package openai

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is read of a recorded response or message is what encoding/json reads of its
// events, and all of it passes.
func TestDialectsRecorded(t *testing.T) {
	for _, r := range recordings(t, func(r recording) bool { return isStream(r) && !hasChoices(r) }) {
		t.Run(r.File, func(t *testing.T) {
			want := decodedStream(t, r)
			got := readStreamOf(r.endpoint(), true, r.body)
			got.Text = decoded(t, strings.ReplaceAll(got.Text, "|", ""))
			want.Text = strings.ReplaceAll(want.Text, "|", "")
			got.Events = 0
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("read (-want +got):\n%s", diff)
			}
		})
	}
}

// decodedStream is what encoding/json reads of a stream that did not fail.
func decodedStream(t *testing.T, r recording) streamed {
	t.Helper()
	want := streamed{Out: string(r.body), HasUsage: true, Done: true, Finished: true}
	var whole json.RawMessage
	for event := range strings.SplitSeq(string(r.body), "\n\n") {
		_, data, ok := strings.Cut(event, "data: ")
		if !ok {
			continue
		}
		var v struct {
			Type     string
			Delta    json.RawMessage
			Usage    json.RawMessage
			Response struct{ Usage json.RawMessage }
			Block    struct{ Name string } `json:"content_block"`
		}
		if err := json.Unmarshal([]byte(data), &v); err != nil {
			t.Fatal(err)
		}
		var grown struct{ Text, Thinking, Partial string }
		var parts map[string]string
		if json.Unmarshal(v.Delta, &parts) == nil {
			grown.Text, grown.Thinking, grown.Partial = parts["text"], parts["thinking"], parts["partial_json"]
		} else {
			_ = json.Unmarshal(v.Delta, &grown.Text)
		}
		want.Text += v.Block.Name + grown.Text + grown.Thinking + grown.Partial
		for _, u := range []json.RawMessage{v.Usage, v.Response.Usage} {
			if len(u) > 0 && string(u) != "null" {
				whole = u
			}
		}
	}
	r.body = []byte(`{"usage":` + string(whole) + `}`)
	want.Usage, _ = decodedUsage(t, r)
	return want
}

func TestResponseStream(t *testing.T) {
	const (
		created   = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"usage\":null,\"error\":null}}\n\n"
		delta     = "event: response.output_text.delta\ndata: {\"delta\":\"a\\n\",\"type\":\"response.output_text.delta\"}\n\n"
		completed = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":2,\"output_tokens_details\":{\"reasoning_tokens\":1}}}}\n\n"
	)
	exact := Usage{Input: 5, Output: 2, Reasoning: 1}
	end := func(kind string) string { return strings.ReplaceAll(completed, "response.completed", "response."+kind) }
	runDialect(t, Responses, []dialectTest{
		{"whole", created + delta + completed, streamed{Text: `a\n|`, Usage: exact, HasUsage: true, Done: true, Finished: true, Events: 1}},
		{"incomplete", delta + end("incomplete"), streamed{Text: `a\n|`, Usage: exact, HasUsage: true, Done: true, Finished: true, Events: 1}},
		{"failed", end("failed"), streamed{Usage: exact, HasUsage: true, Done: true, Failed: true}},
		{"cut off", created + delta, streamed{Text: `a\n|`, Events: 1}},
		{"an error event", created + "event: error\ndata: {\"type\":\"error\",\"message\":\"no\"}\n\n", streamed{Failed: true}},
		{"an error of vLLM's", "data: {\"error\":{\"message\":\"no\"}}\n\ndata: [DONE]\n\n", streamed{Failed: true, Done: true}},
		{
			"reasoning, calls and what is no text", "" +
				"data: {\"type\":\"response.reasoning_text.delta\",\"delta\":\"r\"}\n\ndata: {\"type\":\"response.reasoning_summary_text.delta\",\"delta\":\"s\"}\n\n" +
				"data: {\"type\":\"response.function_call_arguments.delta\",\"delta\":\"{\"}\n\ndata: {\"type\":\"response.audio.delta\",\"delta\":\"AAAA\"}\n\n" +
				"data: {\"type\":\"response.output_text.done\",\"text\":\"x\"}\n\ndata: {\"type\":\"x.delta\",\"delta\":{\"text\":\"y\"}}\n\ndata: {\"delta\":\"z\"}\n\n",
			streamed{Text: "r|s|{|", Events: 3},
		},
		{
			"a last event that repeats megabytes", strings.Replace(completed, `"response":{`, `"response":{"output":"`+strings.Repeat("x", 2<<20)+`",`, 1),
			streamed{Usage: exact, HasUsage: true, Done: true, Finished: true},
		},
		{"usage that is not sane", strings.Replace(completed, ":5", ":-5", 1), streamed{Done: true, Finished: true}},
	})
}

func TestMessageStream(t *testing.T) {
	event := func(kind, members string) string {
		return "event: " + kind + "\ndata: {\"type\":\"" + kind + "\"" + members + "}\n\n"
	}
	start := event("message_start", `,"message":{"model":"m","usage":{"input_tokens":25,"cache_read_input_tokens":3,"cache_creation_input_tokens":4,"output_tokens":1}}`)
	text := event("content_block_delta", `,"index":0,"delta":{"type":"text_delta","text":"hi"}`)
	stop := event("message_stop", "")
	runDialect(t, Messages, []dialectTest{
		{
			"counts that grow are not added", start + text + event("message_delta", `,"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}`) +
				event("message_delta", `,"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":15}`) + stop,
			streamed{Text: "hi|", Usage: Usage{Input: 32, Output: 15, Cached: 3}, HasUsage: true, Done: true, Finished: true, Events: 1},
		},
		{
			"what comes last is the whole", start + event("message_delta", `,"delta":{"stop_reason":null},"usage":{"input_tokens":9,"output_tokens":15}`) + stop,
			streamed{Usage: Usage{Input: 9, Output: 15}, HasUsage: true, Done: true},
		},
		{"cut off", start + text, streamed{Text: "hi|", Usage: Usage{Input: 32, Output: 1, Cached: 3}, HasUsage: true, Events: 1}},
		{"an error", start + event("error", `,"error":{"type":"overloaded_error","message":"no"}`), streamed{Usage: Usage{Input: 32, Output: 1, Cached: 3}, HasUsage: true, Failed: true}},
		{"a ping", event("ping", ""), streamed{}},
		{
			"thinking and tools", event("content_block_delta", `,"delta":{"type":"thinking_delta","thinking":"t"}`) + event("content_block_delta", `,"delta":{"type":"signature_delta","signature":"s"}`) +
				event("content_block_start", `,"content_block":{"type":"tool_use","name":"f","input":{}}`) + event("content_block_delta", `,"delta":{"type":"input_json_delta","partial_json":"{}"}`),
			streamed{Text: "t|f|{}|", Events: 3},
		},
	})
}

// A transcript comes as a chat does, or in a dialect of its own.
func TestTranscriptStream(t *testing.T) {
	const word = "data: {\"type\":\"transcript.text.delta\",\"delta\":\"hi\"}\n\n"
	runDialect(t, Transcriptions, []dialectTest{
		{
			"OpenAI's", word + "data: {\"type\":\"transcript.text.done\",\"text\":\"hi\",\"usage\":{\"type\":\"tokens\",\"input_tokens\":14,\"output_tokens\":2,\"total_tokens\":16}}\n\n",
			streamed{Text: "hi|", Usage: Usage{Input: 14, Output: 2}, HasUsage: true, Done: true, Events: 1},
		},
		{
			"vLLM's", strings.ReplaceAll(hello+finish, `"index":0,`, "") + usage + done,
			streamed{Text: "hello|", Usage: Usage{Input: 3, Output: 5}, HasUsage: true, Done: true, Finished: true, Events: 2},
		},
		{"cut off", word, streamed{Text: "hi|", Events: 1}},
	})
	if got := readStream(false, []byte(word)); got.Text != "" {
		t.Errorf("a chat has no transcript, but read %q", got.Text)
	}
}

type dialectTest struct {
	name, stream string
	want         streamed
}

// runDialect reads each stream in pieces cut at every byte.
func runDialect(t *testing.T, ep Endpoint, tests []dialectTest) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.Out = tt.stream
			cut := split
			if len(tt.stream) > 1<<20 {
				cut = func(stream []byte, f func(...[]byte)) { f(stream[:99], stream[99:1<<20], stream[1<<20:]) }
			}
			cut([]byte(tt.stream), func(pieces ...[]byte) {
				if got := readStreamOf(ep, false, pieces...); got != tt.want {
					t.Fatalf("%d pieces, the first of %d bytes (-want +got):\n%s", len(pieces), len(pieces[0]), cmp.Diff(tt.want, got))
				}
			})
		})
	}
}
