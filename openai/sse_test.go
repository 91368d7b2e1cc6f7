package openai

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// streamed is all that an EventStream told of a stream.
type streamed struct {
	Out, Text                 string
	Usage                     Usage
	HasUsage                  bool
	Done, Finished, Failed    bool
	Events, Oversize, Removed int64
}

// readStream gives the pieces to an EventStream, the last of them as the end.
func readStream(strip bool, pieces ...[]byte) streamed {
	return readStreamOf(Unknown, strip, pieces...)
}

func readStreamOf(ep Endpoint, strip bool, pieces ...[]byte) streamed {
	var got streamed
	var out, text []byte
	s := EventStream{Endpoint: ep, Strip: strip, Text: func(raw []byte) {
		text = append(text, raw...)
		text = append(text, '|')
	}}
	for i, p := range pieces {
		b, _ := s.Write(p, i == len(pieces)-1)
		out = append(out, b...)
	}
	got.Out, got.Text = string(out), string(text)
	got.Usage, got.HasUsage = s.Usage()
	got.Done, got.Finished, got.Failed = s.Done(), s.Finished(), s.Failed()
	got.Events, got.Oversize, got.Removed = s.Events(), s.Oversize(), s.Stripped()
	return got
}

const (
	hello  = `data: {"choices":[{"index":0,"delta":{"content":"hello"}}]}` + "\n\n"
	finish = `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	usage  = `data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}` + "\n\n"
	done   = "data: [DONE]\n\n"
)

// split cuts a stream in every way of interest and calls f with the pieces.
func split(stream []byte, f func(pieces ...[]byte)) {
	step := splitStep * (1 + len(stream)/16_000)
	for i := 0; i <= len(stream); i += step {
		f(stream[:i], stream[i:])
	}
	bytewise := make([][]byte, len(stream)+1) // and an empty piece at the end
	for i := range stream {
		bytewise[i] = stream[i : i+1]
	}
	f(bytewise...)
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		var pieces [][]byte
		for rest := stream; len(rest) > 0; {
			n := min(len(rest), 1+random.IntN(400))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		f(pieces...)
	}
}

// However a recorded stream is cut, it is read and passed on alike.
func TestEventStreamRecordedSplits(t *testing.T) {
	for _, r := range recordings(t, isStream) {
		t.Run(r.File, func(t *testing.T) {
			t.Parallel()
			for _, strip := range []bool{false, true} {
				want := readStreamOf(r.endpoint(), strip, r.body)
				split(r.body, func(pieces ...[]byte) {
					if got := readStreamOf(r.endpoint(), strip, pieces...); got != want {
						t.Fatalf("strip %v, %d pieces, the first of %d bytes (-want +got):\n%s", strip, len(pieces), len(pieces[0]), cmp.Diff(want, got))
					}
				})
			}
		})
	}
}

// The same with line ends of the other kinds, and with a byte order mark.
func TestEventStreamSplitsOtherLineEnds(t *testing.T) {
	stream := ":hi\n\n" + hello + "event: x\n" + finish + usage + usage + done
	for name, end := range map[string]string{"CRLF": "\r\n", "CR": "\r", "LF": "\n"} {
		t.Run(name, func(t *testing.T) {
			body := "\uFEFF" + strings.ReplaceAll(stream, "\n", end)
			bare := strings.ReplaceAll(usage, "\n", end)
			want := streamed{
				Out: strings.ReplaceAll(body, bare, ""), Text: "hello|",
				Usage: Usage{Input: 3, Output: 5}, HasUsage: true,
				Done: true, Finished: true, Events: 2, Removed: 2,
			}
			split([]byte(body), func(pieces ...[]byte) {
				if got := readStream(true, pieces...); got != want {
					t.Fatalf("%d pieces, the first of %d bytes (-want +got):\n%s", len(pieces), len(pieces[0]), cmp.Diff(want, got))
				}
			})
		})
	}
}

// chunkOf is an event as encoding/json reads it, the oracle.
type chunkOf struct {
	Choices []struct {
		FinishReason *string `json:"finish_reason"`
		Text         string
		Delta        struct {
			Content, Reasoning string
			ToolCalls          []struct {
				Function struct{ Name, Arguments string }
			} `json:"tool_calls"`
		}
	}
	Usage *struct {
		PromptTokens     int64 `json:"prompt_tokens"`
		CompletionTokens int64 `json:"completion_tokens"`
	}
	Error any
}

func (c chunkOf) text() string {
	var b strings.Builder
	for _, choice := range c.Choices {
		b.WriteString(choice.Text + choice.Delta.Content + choice.Delta.Reasoning)
		for _, call := range choice.Delta.ToolCalls {
			b.WriteString(call.Function.Name + call.Function.Arguments)
		}
	}
	return b.String()
}

// What is read of a recorded stream is what encoding/json reads of its events,
// and Strip removes exactly the events that report usage and nothing else.
func TestEventStreamRecorded(t *testing.T) {
	for _, r := range recordings(t, func(r recording) bool { return isStream(r) && hasChoices(r) }) {
		t.Run(r.File, func(t *testing.T) {
			var want streamed
			var last Usage
			for _, event := range strings.SplitAfter(string(r.body), "\n\n") {
				data, isData := strings.CutPrefix(event, "data: ")
				var c chunkOf
				if err := json.Unmarshal([]byte(data), &c); isData && err != nil {
					want.Done = want.Done || data == "[DONE]\n\n"
				}
				if c.Usage != nil {
					want.HasUsage, last = true, Usage{Input: c.Usage.PromptTokens, Output: c.Usage.CompletionTokens}
				}
				if len(c.Choices) > 0 {
					want.Events++
				}
				if c.Usage != nil && len(c.Choices) == 0 {
					want.Usage, want.Removed = last, want.Removed+1
					continue
				}
				want.Out += event
				want.Text += c.text()
				want.Failed = want.Failed || c.Error != nil
				for _, choice := range c.Choices {
					want.Finished = want.Finished || choice.FinishReason != nil
				}
			}
			got := readStream(true, r.body)
			got.Usage.Cached, got.Usage.Reasoning = 0, 0
			got.Text = decoded(t, strings.ReplaceAll(got.Text, "|", ""))
			want.Text = strings.ReplaceAll(want.Text, "|", "")
			if want.Removed == 0 {
				got.Usage = Usage{} // see TestEventStreamUsage
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("read (-want +got):\n%s", diff)
			}
		})
	}
}

func decoded(t *testing.T, raw string) string {
	t.Helper()
	var s string
	if err := json.Unmarshal([]byte(`"`+raw+`"`), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEventStreamStrip(t *testing.T) {
	tests := []struct{ name, event, want string }{
		{"usage alone", usage, ""},
		{"usage with other members and a null error", `data:{ "id":"x", "usage" : {} , "error":null, "choices" : [ ] }` + "\n\n", ""},
		{"usage in two lines", "data: {\"choices\":[],\ndata: \"usage\":{}}\n\n", ""},
		{"usage with a comment and an id", ":x\nid: 7\n" + usage, ""},
		{"usage that is not sane", `data: {"choices":[],"usage":{"prompt_tokens":-1}}` + "\n\n", ""},
		{"usage with an error", `data: {"choices":[],"usage":{},"error":{}}` + "\n\n", "kept"},
		{"usage with a choice", `data: {"choices":[{}],"usage":{}}` + "\n\n", "kept"},
		{"usage is null", `data: {"choices":[],"usage":null}` + "\n\n", "kept"},
		{"no usage", `data: {"choices":[]}` + "\n\n", "kept"},
		{"no choices", `data: {"usage":{}}` + "\n\n", "kept"},
		{"choices are null", `data: {"choices":null,"usage":{}}` + "\n\n", "kept"},
		{"broken", `data: {"choices":[],"usage":{}` + "\n\n", "kept"},
		{"more after the object", `data: {"choices":[],"usage":{}}{}` + "\n\n", "kept"},
		{"two events' data in one", strings.TrimSuffix(usage, "\n") + usage, "kept"},
		{"in a comment", ": {\"choices\":[],\"usage\":{}}\n\n", "kept"},
		{"in another field", "database: {\"choices\":[],\"usage\":{}}\n\n", "kept"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.want == "kept" {
				tt.want = tt.event
			}
			got := readStream(true, []byte(hello+tt.event+done))
			if diff := cmp.Diff(hello+tt.want+done, got.Out); diff != "" {
				t.Errorf("out (-want +got):\n%s", diff)
			}
			if got := readStream(false, []byte(hello+tt.event)); got.Out != hello+tt.event {
				t.Errorf("without Strip: got %q", got.Out)
			}
		})
	}
}

func TestEventStreamUsage(t *testing.T) {
	chunk := func(index, usage string) string {
		return `data: {"choices":[{"index":` + index + `,"text":"x"}],"usage":` + usage + "}\n\n"
	}
	tests := []struct {
		name, stream string
		want         Usage
		ok           bool
	}{
		{"none", hello + finish, Usage{}, false},
		{"details", `data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":8,"prompt_tokens_details":{"cached_tokens":7},"completion_tokens_details":{"reasoning_tokens":6}}}` + "\n\n", Usage{Input: 9, Output: 8, Cached: 7, Reasoning: 6}, true},
		{"other names", `data: {"usage":{"input_tokens":9,"output_tokens":8,"input_tokens_details":{"cached_tokens":7},"output_tokens_details":{"reasoning_tokens":6}}}` + "\n\n", Usage{Input: 9, Output: 8, Cached: 7, Reasoning: 6}, true},
		{"details are null", `data: {"usage":{"prompt_tokens":9,"prompt_tokens_details":null,"completion_tokens_details":{"reasoning_tokens":null}}}` + "\n\n", Usage{Input: 9}, true},
		{"a null at the end changes nothing", usage + `data: {"choices":[],"usage":null}` + "\n\n", Usage{Input: 3, Output: 5}, true},
		{"zeros and the truth last", chunk("0", `{"prompt_tokens":0,"completion_tokens":0}`) + chunk("0", `{"prompt_tokens":4,"completion_tokens":2}`), Usage{Input: 4, Output: 2}, true},
		{"zero is a value", usage + `data: {"choices":[],"usage":{"completion_tokens":0}}` + "\n\n", Usage{}, true},
		{"continuous usage of one choice", chunk("0", `{"prompt_tokens":4,"completion_tokens":1}`) + chunk("0", `{"prompt_tokens":4,"completion_tokens":2}`), Usage{Input: 4, Output: 2}, true},
		{
			"continuous usage of two choices, cut off",
			chunk("0", `{"prompt_tokens":4,"completion_tokens":1}`) + chunk("1", `{"prompt_tokens":4,"completion_tokens":1}`) + chunk("0", `{"prompt_tokens":4,"completion_tokens":2}`),
			Usage{Input: 4, Output: 3},
			true,
		},
		{"the whole's wins over the choices'", chunk("0", `{"prompt_tokens":4,"completion_tokens":1}`) + usage + chunk("1", `{"prompt_tokens":1,"completion_tokens":1}`), Usage{Input: 3, Output: 5}, true},
		{"of a choice far out", chunk("999999999", `{"prompt_tokens":4,"completion_tokens":1}`), Usage{Input: 4, Output: 1}, true},
		{"inside the choice", `data: {"choices":[{"delta":{},"finish_reason":"stop","usage":{"prompt_tokens":4,"completion_tokens":2}}]}` + "\n\n", Usage{Input: 4, Output: 2}, true},
		{"Groq's", `data: {"choices":[{"delta":{},"finish_reason":"stop"}],"x_groq":{"id":"x","usage":{"prompt_tokens":4,"completion_tokens":2}}}` + "\n\n", Usage{Input: 4, Output: 2}, true},
		{"empty", `data: {"usage":{}}` + "\n\n", Usage{}, false},
		{"null counts", `data: {"usage":{"prompt_tokens":null}}` + "\n\n", Usage{}, false},
		{"negative", `data: {"usage":{"prompt_tokens":3,"completion_tokens":-1}}` + "\n\n", Usage{}, false},
		{"a fraction", `data: {"usage":{"prompt_tokens":3.0}}` + "\n\n", Usage{}, false},
		{"a string", `data: {"usage":{"prompt_tokens":"3"}}` + "\n\n", Usage{}, false},
		{"the largest", `data: {"usage":{"prompt_tokens":1000000000}}` + "\n\n", Usage{Input: 1e9}, true},
		{"too large", `data: {"usage":{"prompt_tokens":1000000001}}` + "\n\n", Usage{}, false},
		{"no object", `data: {"usage":[5]}` + "\n\ndata: 5\n\ndata: []\n\n", Usage{}, false},
		{"NaN elsewhere", `data: {"choices":[{"logprobs":NaN}],"usage":{"prompt_tokens":3}}` + "\n\n", Usage{Input: 3}, true},
		{"not terminated", strings.TrimRight(usage, "\n"), Usage{Input: 3, Output: 5}, true},
		{"cut off", usage[:len(usage)-5], Usage{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := readStream(false, []byte(tt.stream))
			if diff := cmp.Diff(tt.want, got.Usage); diff != "" || got.HasUsage != tt.ok {
				t.Errorf("got %v, want %v; usage (-want +got):\n%s", got.HasUsage, tt.ok, diff)
			}
		})
	}
}

func TestEventStreamText(t *testing.T) {
	delta := func(s string) string { return `data: {"choices":[{"delta":` + s + "}]}\n\n" }
	tests := []struct{ name, stream, want string }{
		{"content", delta(`{"role":"assistant","content":"a\"\n"}`), `a\"\n|`},
		{"null and empty", delta(`{"content":null}`) + delta(`{"content":""}`) + delta(`null`), ""},
		{"reasoning", delta(`{"reasoning":"r"}`) + delta(`{"reasoning_content":"s"}`), "r|s|"},
		{"reasoning under two names", delta(`{"reasoning":"r","reasoning_content":"r"}`), "r|"},
		{"refusal", delta(`{"refusal":"no"}`), "no|"},
		{"tool calls", delta(`{"tool_calls":[{"index":0,"id":"x","function":{"name":"f","arguments":""}},{"function":{"arguments":"{\"a\""}}]}`), `f|{\"a\"|`},
		{"function call", delta(`{"function_call":{"name":"f","arguments":"{}"}}`), `f|{}|`},
		{"several choices", `data: {"choices":[{"text":"a"},{"text":"b"},5]}` + "\n\n", "a|b|"},
		{"several lines", "data: {\"choices\":[\ndata: {\"text\":\"a\"}]\ndata\ndata:}\n\n", "a|"},
		{"cut off", `data: {"choices":[{"text":"abc`, "abc|"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, readStream(true, []byte(tt.stream)).Text); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEventStreamFlags(t *testing.T) {
	tests := []struct {
		name, stream string
		want         streamed
	}{
		{"whole", hello + finish + done, streamed{Done: true, Finished: true, Events: 2}},
		{"error", hello + `data: {"error": {"message": "x"}}` + "\n\n" + done, streamed{Done: true, Failed: true, Events: 1}},
		{"error as a string", `data: {"error":"x"}` + "\n\n", streamed{Failed: true}},
		{"error is null", `data: {"choices":[{}],"error":null}` + "\n\n", streamed{Events: 1}},
		{"done without space or end", "data:[DONE]", streamed{Done: true}},
		{"done in a comment", ": [DONE]\n\n", streamed{}},
		{"only comments", ": ping\n\n: ping\n\n", streamed{}},
		{"empty", "", streamed{}},
		{"html", "<html>\n\n", streamed{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := readStream(true, []byte(tt.stream))
			if got.Out != tt.stream {
				t.Errorf("out: got %q", got.Out)
			}
			got.Out, got.Text = "", ""
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("flags (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEventStreamOversize(t *testing.T) {
	event := func(n int) string { return "data: " + strings.Repeat("x", n-len("data: \n\n")) + "\n\n" }
	stream := []byte(hello + event(maxEvent) + event(maxEvent+1) + event(3*maxEvent) + usage + done)
	want := streamed{
		Out: strings.Replace(string(stream), usage, "", 1), Text: "hello|",
		Usage: Usage{Input: 3, Output: 5}, HasUsage: true, Done: true, Events: 1, Oversize: 2, Removed: 1,
	}
	for _, size := range []int{len(stream), 1000, 65536, maxEvent, maxEvent + 60, maxEvent + 70} {
		var pieces [][]byte
		for rest := stream; len(rest) > 0; {
			n := min(size, len(rest))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		if got := readStream(true, pieces...); got != want {
			got.Out, want.Out = "", ""
			t.Errorf("pieces of %d bytes (-want +got):\n%s", size, cmp.Diff(want, got))
		}
	}
}

// Without Strip nothing is copied or held back; with it, only what must be.
func TestEventStreamHoldsBack(t *testing.T) {
	pieces := []struct {
		p       string
		want    string // with Strip
		changed bool
	}{
		{hello, hello, false},
		{hello + hello[:9], hello, true},
		{hello[9:12], "", true},
		{hello[12:] + hello, hello + hello, true},
		{hello + usage + finish, hello + finish, true},
		{usage[:len(usage)-1], "", true},
		{"\n", "", true},
		{usage[:len(usage)-2], "", true},
		{"", usage[:len(usage)-2], true},
	}
	plain, strip := EventStream{}, EventStream{Strip: true}
	for i, tt := range pieces {
		p, last := []byte(tt.p), i == len(pieces)-1
		if out, changed := plain.Write(p, last); changed || !bytes.Equal(out, p) {
			t.Errorf("piece %d without Strip: got %q, changed %v", i, out, changed)
		}
		out, changed := strip.Write(p, last)
		if string(out) != tt.want || changed != tt.changed {
			t.Errorf("piece %d: got %q, changed %v, want %q, changed %v", i, out, changed, tt.want, tt.changed)
		}
	}
}

func TestEventStreamAllocates(t *testing.T) {
	stream := []byte(hello + hello + usage)
	for _, strip := range []bool{false, true} {
		s := EventStream{Strip: strip, Text: func([]byte) {}}
		if got := testing.AllocsPerRun(100, func() {
			s.Write(stream[:100], false)
			s.Write(stream[100:], false)
		}); got != 0 {
			t.Errorf("strip %v: %v allocations, want none", strip, got)
		}
	}
}
