package openai

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func addBodies(f *testing.F) {
	f.Helper()
	for _, body := range []string{
		``, `{}`, `{"messages":[]}`, `{"prompt":[1,[2],"x"]}`, `{"messages":[],"model":"a\u0062","n":2}`,
		chat(`"model":"m","stream":true,"stream_options":{"include_usage":null,"x":[1e5]},"max_tokens":null`),
		`{"input":[[1],"x",{"content":[{"text":"y"}],"output":"z"}],"max_output_tokens":3,"background":false,"stream":true}`,
		`{"query":{"text":"q"},"documents":["d",{"content":[]}],"text_1":["a"],"system":[{"text":"s"}]}`,
		`{"messages":[{"content":[{"type":"tool_result","content":[{"text":"x"}]},{"source":{}}]}],"max_tokens":5,"system":"s"}`,
		chat(`"max_tokens":5,"max_completion_tokens":6,"tools":[{"name":"\ud83d\ude00"}]`),
		`{"messages":[{"content":[{"type":"text","text":"x"},{"type":"image_url"}],"tool_calls":[{"function":{"name":"f"}}]}]}`,
		"\uFEFF{}", "{\"messages\":[],\"\u017Ftream\":1}", `{"mod\u0065l":1}`, `{"x":01}`, `{"x":"\ud800"}`, "{\"x\":\"\xff\"}",
	} {
		f.Add([]byte(body))
	}
}

// Whatever is accepted is JSON, and says what encoding/json reads.
func FuzzParseRequest(f *testing.F) {
	addBodies(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, ep := range append(Endpoints(), Unknown) {
			r, refusal := ParseRequest(ep, body)
			if refusal != nil {
				if refusal.Status != 400 || refusal.Message == "" || !json.Valid(refusal.Body()) {
					t.Fatalf("refused with %s", refusal.Body())
				}
				continue
			}
			if !json.Valid(body) {
				t.Fatalf("accepted %q", body)
			}
			compareRequest(t, r, body)
			r.PromptText(body, func([]byte) {})
			r.QueryText(body, func([]byte) {})
		}
	})
}

// compareRequest compares r with what encoding/json reads of exactly the names
// that r knows (in a map, because structs fold case).
func compareRequest(t *testing.T, r Request, body []byte) {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("accepted %q: %v", body, err)
	}
	number := func(name string) int64 {
		n, _ := v[name].(float64)
		return int64(n)
	}
	want := Request{Endpoint: r.Endpoint, N: 1}
	want.Model, _ = v["model"].(string)
	switch r.Endpoint {
	case Unknown, ChatCompletions, Completions:
		want.N = max(1, number("n"))
		want.MaxTokens = max(number("max_tokens"), number("max_completion_tokens"))
		want.Stream, _ = v["stream"].(bool)
	case Responses:
		want.MaxTokens = number("max_output_tokens")
		want.Stream, _ = v["stream"].(bool)
	case Messages:
		want.MaxTokens = number("max_tokens")
		want.Stream, _ = v["stream"].(bool)
	default:
	}
	options, _ := v["stream_options"].(map[string]any)
	want.IncludeUsage, _ = options["include_usage"].(bool)
	got := Request{
		Endpoint: r.Endpoint, Model: r.Model, Stream: r.Stream,
		MaxTokens: r.MaxTokens, N: r.N, IncludeUsage: r.IncludeUsage,
	}
	if got != want {
		t.Fatalf("%q: got %+v, want %+v", body, got, want)
	}
}

func FuzzApply(f *testing.F) {
	for _, body := range []string{
		`{"messages":[]}`, `{"messages":[],"stream":true,"stream_options":{}}`,
		chat(`"model":"m","stream":true,"stream_options":{"include_usage":null,"x":[1]},"max_tokens":null`),
	} {
		f.Add([]byte(body), "m", int64(1), true)
	}
	f.Fuzz(func(t *testing.T, body []byte, model string, maxTokens int64, usage bool) {
		if maxTokens > 1<<31-1 {
			maxTokens %= 1 << 31
		}
		checkApply(t, body, Edit{Model: model, MaxTokens: maxTokens, IncludeUsage: usage})
	})
}

// However a stream is cut, it is read and passed on alike; without Strip it is
// passed on as it came.
func FuzzEventStream(f *testing.F) {
	for _, stream := range []string{
		hello + finish + usage + done, ":x\r\n\r\n" + hello + "\r\r", "\uFEFFdata\ndata:\n\n", "\r\n\r\r\n\n\r", usage[:30],
		"data: {\"choices\":[{\"index\":3,\"delta\":{\"tool_calls\":[{\"function\":{\"name\":\"f\"}}]}}],\ndata: \"usage\":{\"prompt_tokens\":1}}\n\n",
	} {
		f.Add([]byte(stream), uint16(20), uint16(90))
	}
	f.Fuzz(func(t *testing.T, stream []byte, i, j uint16) {
		a := min(int(i), len(stream))
		b := min(a+int(j), len(stream))
		for _, strip := range []bool{false, true} {
			want := readStream(strip, stream)
			got := readStream(strip, stream[:a], stream[a:b], nil, stream[b:])
			if got != want {
				t.Fatalf("strip %v, cut at %d and %d (-want +got):\n%s", strip, a, b, cmp.Diff(want, got))
			}
			if !strip && got.Out != string(stream) {
				t.Fatalf("%q became %q", stream, got.Out)
			}
		}
	})
}

// However an answer is cut, it is read alike, and one that is JSON is complete.
func FuzzPlainAnswer(f *testing.F) {
	for _, body := range []string{
		`{"choices":[{"usage":{}}],"usage":{"prompt_tokens":1,"x":"\\\"}"}}`, `{"x_groq":{"usage":{"prompt_tokens":2}}}`, `}`, `[`, `"`, `{"a":"\`,
	} {
		f.Add([]byte(body), uint16(5), uint16(9))
	}
	f.Fuzz(func(t *testing.T, body []byte, i, j uint16) {
		a := min(int(i), len(body))
		b := min(a+int(j), len(body))
		want := readAnswer(body)
		if got := readAnswer(body[:a], body[a:b], body[b:]); got != want {
			t.Fatalf("cut at %d and %d (-want +got):\n%s", a, b, cmp.Diff(want, got))
		}
		var object map[string]json.RawMessage
		if json.Unmarshal(body, &object) == nil && object != nil && !want.Complete {
			t.Fatalf("%q is not complete", body)
		}
	})
}
