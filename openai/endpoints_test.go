package openai

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEndpoints(t *testing.T) {
	names := map[string]bool{}
	for _, ep := range Endpoints() {
		if !strings.HasPrefix(ep.Path(), "/v1/") || EndpointOf(ep.Path()) != ep || names[ep.String()] || ep.String() == "" {
			t.Errorf("endpoint %d: path %q, name %q", ep, ep.Path(), ep)
		}
		names[ep.String()] = true
	}
	for _, path := range []string{"", "/v1/", "/v1/messages/", "/v1/messages/batches", "/v1/Embeddings", "/rerank", "/v2/rerank", "/v1/responses/resp_1", "/v1/audio/speech"} {
		if ep := EndpointOf(path); ep != Unknown {
			t.Errorf("%s is taken for %s", path, ep)
		}
	}
}

// What each endpoint asks of a request, and what it reads of its prompt.
func TestEndpointRequests(t *testing.T) {
	tests := []struct {
		name string
		ep   Endpoint
		body string
		want asked
	}{
		{"a text to embed", Embeddings, `{"input":"a b","model":"m","stream":true,"max_tokens":"x","n":"y"}`, asked{Model: "m", Inputs: 1, Text: "a b"}},
		{"texts to embed", Embeddings, `{"input":["a","b"],"dimensions":8}`, asked{Inputs: 2, Text: "a|b"}},
		{"tokens to embed", Embeddings, `{"input":[[1,2],[3]]}`, asked{Inputs: 2, IDs: 3}},
		{"a chat to embed", Embeddings, `{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url"}]}]}`, asked{Inputs: 1, Parts: 1, Text: "a"}},
		{"rerank", Rerank, `{"query":"q","documents":["a",{"text":"b"},{"content":[{"type":"text","text":"c"},{"type":"image_url"}]}],"top_n":1}`, asked{Inputs: 3, Parts: 1, Queries: 1, Query: "q", Text: "a|b|c"}},
		{"score", Score, `{"text_1":["q","r"],"text_2":["a","b"]}`, asked{Inputs: 2, Queries: 2, Query: "q|r", Text: "a|b"}},
		{"score by other names", Score, `{"data_2":"a","data_1":"q"}`, asked{Inputs: 1, Queries: 1, Query: "q", Text: "a"}},
		{"a response", Responses, `{"input":"hi","stream":true,"max_output_tokens":9,"max_tokens":"x","stream_options":{"include_obfuscation":false},"background":false}`, asked{Stream: true, Max: 9, Inputs: 1, Text: "hi"}},
		{
			"a response to items", Responses, `{"instructions":"be kind","text":{"format":{}},"tools":[{"a":1}],"input":["x",{"role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_image"}]},
				{"type":"function_call","name":"f","arguments":"{}"},{"type":"function_call_output","output":"o"},{"type":"reasoning","summary":[{"type":"summary_text","text":"s"}],"encrypted_content":"zz"}]}`,
			asked{Inputs: 5, Parts: 1, Text: `a|f|{}|o|s|be kind|[{"a":1}]|{"format":{}}`},
		},
		{
			"a message", Messages, `{"max_tokens":7,"stream":true,"system":[{"type":"text","text":"sys"}],"tools":[],"messages":[{"role":"user","content":"hi"},
				{"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"zz"},{"type":"tool_use","name":"f","input":{"a":1}}]},
				{"role":"user","content":[{"type":"tool_result","content":[{"type":"text","text":"r"},{"type":"image","source":{"data":"AAAA"}}]},{"type":"text","text":"x"}]}]}`,
			asked{Stream: true, Max: 7, Inputs: 3, Parts: 1, Text: `hi|t|f|{"a":1}|r|x|sys|[]`},
		},
		{"tokens to count", CountTokens, `{"messages":[{"role":"user","content":"hi"}],"system":"s","stream":true}`, asked{Inputs: 1, Text: "hi|s"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := ParseRequest(tt.ep, []byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, askedOf(r, tt.body)); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
			if r.AsksForUsage() {
				t.Error("only chats and completions ask for usage")
			}
		})
	}
}

// asked is all that a Request tells of itself.
type asked struct {
	Model                       string
	Stream                      bool
	Max                         int64
	Inputs, Parts, IDs, Queries int
	Text, Query                 string
}

func askedOf(r Request, body string) asked {
	var text, query []string
	a := asked{Model: r.Model, Stream: r.Stream, Max: r.MaxTokens}
	a.Inputs, a.Parts, a.IDs = r.PromptText([]byte(body), func(raw []byte) { text = append(text, string(raw)) })
	a.Queries, _ = r.QueryText([]byte(body), func(raw []byte) { query = append(query, string(raw)) })
	a.Text, a.Query = strings.Join(text, "|"), strings.Join(query, "|")
	return a
}

func TestEndpointRequestsRefused(t *testing.T) {
	const messages = `"messages":[{"role":"user","content":"hi"}]`
	tests := []struct {
		ep                   Endpoint
		body, param, message string
	}{
		{Embeddings, `{"prompt":"x"}`, "input", "Missing required parameter: 'input'. Send a string or an array."},
		{Embeddings, `{"input":null}`, "input", "Invalid type for 'input' at byte 9: expected a string or an array, but got null. Send a string or an array."},
		{Rerank, `{"documents":["a"]}`, "query", "Missing required parameter: 'query'. Send a string."},
		{Rerank, `{"query":"a"}`, "documents", "Missing required parameter: 'documents'. Send an array of texts."},
		{Rerank, `{"query":5,"documents":["a"]}`, "query", "Invalid type for 'query' at byte 9: expected a string, an array or an object, but got a number. Send a string, an array or an object."},
		{Score, `{"text_1":"a"}`, "text_2", "Missing required parameter: 'text_2'. Send a string or an array."},
		{Score, `{"text_2":"a"}`, "text_1", "Missing required parameter: 'text_1'. Send a string or an array."},
		{Score, `{"text_1":"a","queries":"b","text_2":"c"}`, "queries", "'queries' at byte 24 says again what another parameter has said. Send one of them."},
		{Responses, `{"messages":[]}`, "input", "Missing required parameter: 'input'. Send a string or an array."},
		{Responses, `{"input":"x","background":true}`, "background", "Invalid value for 'background' at byte 26: responses in the background are not served here. Leave it out, and set 'stream' to true for long answers."},
		{Responses, `{"input":"x","background":1}`, "background", "Invalid type for 'background' at byte 26: expected true, false or null, but got a number. Send true, false or null."},
		{Responses, `{"input":"x","max_output_tokens":0}`, "max_output_tokens", "Invalid value for 'max_output_tokens' at byte 33: expected an integer from 1 to 2147483647, but got 0. Correct it or leave it out."},
		{Responses, `{"Input":"x"}`, "Input", "The name of the member at byte 1 is not written as 'input'. Write it in lower case and without escapes."},
		{Messages, `{` + messages + `}`, "max_tokens", "Missing required parameter: 'max_tokens'. Send the most tokens that the answer may have."},
		{Messages, `{` + messages + `,"max_tokens":null,"max_completion_tokens":5}`, "max_tokens", "Missing required parameter: 'max_tokens'. Send the most tokens that the answer may have."},
		{Messages, `{"max_tokens":5}`, "messages", "Missing required parameter: 'messages'. Send an array of messages."},
		{CountTokens, `{}`, "messages", "Missing required parameter: 'messages'. Send an array of messages."},
		{CountTokens, `{"messages":"x"}`, "messages", "Invalid type for 'messages' at byte 12: expected an array, but got a string. Send an array."},
	}
	for _, tt := range tests {
		_, err := ParseRequest(tt.ep, []byte(tt.body))
		if err == nil || err.Status != 400 || err.Param != tt.param || err.Message != tt.message {
			t.Errorf("%s %s: got %v, want %s", tt.ep, tt.body, err, tt.message)
		}
	}
}

// What a request has written into it is what its endpoint understands.
func TestEndpointEdits(t *testing.T) {
	e := Edit{Model: "served", MaxTokens: 5, IncludeUsage: true}
	for _, tt := range []struct {
		ep         Endpoint
		body, want string
	}{
		{Embeddings, `{"input":"x","model":"a"}`, `{"input":"x","model":"served"}`},
		{Rerank, `{"query":"x","documents":[],"model":"a"}`, `{"query":"x","documents":[],"model":"served"}`},
		{Responses, `{"input":"x","stream":true}`, `{"model":"served","max_output_tokens":5,"input":"x","stream":true}`},
		{Responses, `{"input":"x","max_output_tokens":null}`, `{"model":"served","input":"x","max_output_tokens":5}`},
		{Messages, `{"messages":[],"max_tokens":9,"stream":true}`, `{"model":"served","messages":[],"max_tokens":9,"stream":true}`},
		{CountTokens, `{"messages":[],"model":"a"}`, `{"messages":[],"model":"served"}`},
	} {
		r, err := ParseRequest(tt.ep, []byte(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(r.Apply([]byte(tt.body), e)); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.ep, got, tt.want)
		}
	}
}

func TestEndpointAnswers(t *testing.T) {
	tests := []struct {
		name, body string
		ep         Endpoint
		want       Usage
	}{
		{"cache tokens are outside a message's input", `{"usage":{"input_tokens":5,"cache_read_input_tokens":25,"cache_creation_input_tokens":null,"output_tokens":6}}`, Messages, Usage{Input: 30, Cached: 25, Output: 6}},
		{"and inside those of others", `{"usage":{"prompt_tokens":30,"cache_read_input_tokens":25,"completion_tokens":6}}`, ChatCompletions, Usage{Input: 30, Output: 6}},
		{"of a wrapped response", `{"response":{"usage":{"input_tokens":5}}}`, Responses, Usage{Input: 5}},
		{"of a wrapped message", `{"message":{"usage":{"input_tokens":5}}}`, Messages, Usage{Input: 5}},
		{"a total alone", `{"results":[],"usage":{"total_tokens":5}}`, Rerank, Usage{Input: 5}},
		{"a total beside the rest", `{"usage":{"prompt_tokens":5,"total_tokens":9}}`, Embeddings, Usage{Input: 5}},
		{"seconds", `{"text":"x","usage":{"type":"duration","seconds":12}}`, Transcriptions, Usage{Seconds: 12}},
		{"tokens of audio", `{"usage":{"type":"tokens","input_tokens":14,"output_tokens":2,"total_tokens":16}}`, Transcriptions, Usage{Input: 14, Output: 2}},
		{"a duration in quotes", `{"duration":"8.47","text":"\"duration\":5,"}`, Translations, Usage{Seconds: 8.47}},
		{"a duration at the end", `{"words":[{"duration":3}],"duration" : 1.5e1 }`, Transcriptions, Usage{Seconds: 15}},
		{"a duration beside usage", `{"duration":1,"usage":{"type":"duration","seconds":2}}`, Transcriptions, Usage{Seconds: 2}},
		{"a duration elsewhere", `{"duration":1}`, ChatCompletions, Usage{}},
		{"a duration that is none", `{"duration":{"a":[1]},"duration":"x,y}","duration":-1}`, Transcriptions, Usage{}},
		{"seconds that are not sane", `{"usage":{"seconds":1e99}}`, Transcriptions, Usage{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := answered{tt.want, tt.want != Usage{}, true}
			split([]byte(tt.body), func(pieces ...[]byte) {
				if got := readAnswerOf(tt.ep, pieces...); got != want {
					t.Fatalf("%d pieces, the first of %d bytes (-want +got):\n%s", len(pieces), len(pieces[0]), cmp.Diff(want, got))
				}
			})
		})
	}
}

func TestAnthropicErrors(t *testing.T) {
	e := &Error{Status: 429, Type: TypeTokens, Code: CodeRateLimit, Message: "no \"more\"", Detail: &Detail{Limit: "l"}}
	if e.For(Responses, "r-1").Anthropic {
		t.Error("a response's error is Anthropic's")
	}
	const want = `{"type":"error","error":{"type":"rate_limit_error","message":"no \"more\"","weir":{"limit":"l"}},"request_id":"r-1"}`
	if got := string(e.For(Messages, "r-1").Body()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := string(e.Event(Messages)); got != "event: error\ndata: "+want+"\n\n" {
		t.Errorf("event %q", got)
	}
	if (*Error)(nil).For(Messages, "") != nil {
		t.Error("no error became one")
	}
	for status, kind := range map[int]string{
		400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error", 405: "invalid_request_error",
		413: "request_too_large", 500: "api_error", 502: "api_error", 503: "overloaded_error", 504: "timeout_error",
	} {
		var v struct{ Error struct{ Type string } }
		if err := json.Unmarshal((&Error{Status: status}).For(CountTokens, "").Body(), &v); err != nil || v.Error.Type != kind {
			t.Errorf("%d: type %q, want %q (%v)", status, v.Error.Type, kind, err)
		}
	}
}

// Every reader of an error event finds the error: by the event's type, by that of
// its data, or by the member error.
func TestErrorEvents(t *testing.T) {
	e := &Error{Status: 502, Type: TypeServer, Code: CodeUpstreamError, Message: "cut"}
	for _, ep := range []Endpoint{ChatCompletions, Responses, Messages, Transcriptions} {
		text := string(e.Event(ep))
		data := text[strings.Index(text, "data: ")+6:]
		var v struct {
			Type  string
			Error struct{ Message string }
		}
		if err := json.Unmarshal([]byte(data), &v); err != nil || v.Error.Message != "cut" || !strings.HasSuffix(text, "}\n\n") {
			t.Errorf("%s: %q: %v", ep, text, err)
		}
		if typed := ep == Responses || ep == Messages; typed != (v.Type == "error") || typed != strings.HasPrefix(text, "event: error\n") {
			t.Errorf("%s: %q", ep, text)
		}
		if got := readStreamOf(ep, false, []byte(text)); !got.Failed {
			t.Errorf("%s: its own reader does not see %q", ep, text)
		}
	}
}

func TestRenameInside(t *testing.T) {
	const to = `"n"`
	for _, tt := range []struct {
		name, in, want string
		ep             Endpoint
	}{
		{"a response", `data: {"response":{"model":"a","x":{"model":"b"}},"y":{"model":"c"}}`, `data: {"response":{"model":` + to + `,"x":{"model":"b"}},"y":{"model":"c"}}`, Responses},
		{"a message", `data: {"y":{"model":"c"},"message":{"content":[{"model":"b"}],"model":"a"}}`, `data: {"y":{"model":"c"},"message":{"content":[{"model":"b"}],"model":` + to + `}}`, Messages},
		{"a list", `data: {"message":[{"model":"b"}],"model":"c"}`, `data: {"message":[{"model":"b"}],"model":` + to + `}`, Messages},
		{"text", `data: {"message":"x","message":{"a":"model"},"b":{"model":"c"}}`, `data: {"message":"x","message":{"a":"model"},"b":{"model":"c"}}`, Messages},
		{"another endpoint's", `data: {"response":{"model":"a"}}`, `data: {"response":{"model":"a"}}`, ChatCompletions},
	} {
		for n := 1; n <= len(tt.in); n++ {
			r, out := NewRenamer(tt.ep, "n", true), ""
			for rest := tt.in; rest != ""; {
				k := min(n, len(rest))
				out += string(r.Write([]byte(rest[:k])))
				rest = rest[k:]
			}
			if out != tt.want {
				t.Fatalf("%s, %d bytes at a time: %s, want %s", tt.name, n, out, tt.want)
			}
		}
	}
}

// FuzzDialects reads streams and answers of every endpoint, however they are cut.
func FuzzDialects(f *testing.F) {
	for _, text := range []string{
		"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":1,\"cache_read_input_tokens\":2}}}\n\n",
		"data: {\"type\":\"response.completed\",\"response\":{\"model\":\"a\",\"usage\":{\"output_tokens\":1}}}\n\n", "data: {\"delta\":\"x\",\"type\":\"a.delta\"}\n\n",
		`{"duration":"1","usage":{"seconds":2}}`, `{"duration":1`, `{"duration":"}`, `{"usage":{"total_tokens":1}}`,
	} {
		f.Add([]byte(text), uint16(9), uint16(20))
	}
	f.Fuzz(func(t *testing.T, text []byte, i, j uint16) {
		a := min(int(i), len(text))
		b := min(a+int(j), len(text))
		for _, ep := range Endpoints() {
			if want, got := readStreamOf(ep, false, text), readStreamOf(ep, false, text[:a], text[a:b], text[b:]); got != want {
				t.Fatalf("%s, cut at %d and %d (-want +got):\n%s", ep, a, b, cmp.Diff(want, got))
			}
			if want, got := readAnswerOf(ep, text), readAnswerOf(ep, text[:a], text[a:b], text[b:]); got != want {
				t.Fatalf("%s, cut at %d and %d (-want +got):\n%s", ep, a, b, cmp.Diff(want, got))
			}
		}
	})
}
