package simulator

import (
	"compress/gzip"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What each member of a script does to a stream of a prompt of 9 tokens.
func TestStreamScripts(t *testing.T) {
	abc := []string{"lorem", " ipsum", " dolor"}
	final := []usage{{9, 12, 3}}
	const ask = `"stream_options":{"include_usage":true},`
	const askAll = `"stream_options":{"include_usage":true,"continuous_usage_stats":true},`
	tests := map[string]struct {
		script, members string
		want            stream
	}{
		"plainest":              {"tokens=3", "", stream{Chunks: abc, Finish: []string{"stop"}, Done: true}},
		"usage asked for":       {"tokens=3", ask, stream{Chunks: abc, Finish: []string{"stop"}, Final: final, Done: true}},
		"usage in all chunks":   {"tokens=3", askAll, stream{Chunks: abc, Finish: []string{"stop"}, Riding: []usage{{9, 9, 0}, {9, 10, 1}, {9, 11, 2}, {9, 12, 3}}, Final: final, Done: true}},
		"max_tokens":            {"tokens=30", `"max_tokens":3,` + ask, stream{Chunks: abc, Finish: []string{"length"}, Final: final, Done: true}},
		"max_completion_tokens": {"tokens=30", `"max_tokens":1,"max_completion_tokens":3,` + ask, stream{Chunks: abc, Finish: []string{"length"}, Final: final, Done: true}},
		"max_tokens just met":   {"tokens=3", `"max_tokens":3,`, stream{Chunks: abc, Finish: []string{"stop"}, Done: true}},
		"no tokens":             {"tokens=0", ask, stream{Finish: []string{"stop"}, Final: []usage{{9, 9, 0}}, Done: true}},
		"per":                   {"tokens=5,per=2", ask, stream{Chunks: []string{"lorem ipsum", " dolor sit", " amet"}, Finish: []string{"stop"}, Final: []usage{{9, 14, 5}}, Done: true}},
		"pad":                   {"tokens=2,pad=3", "", stream{Chunks: []string{"loremxxx", " ipsumxxx"}, Finish: []string{"stop"}, Done: true}},
		"two choices":           {"tokens=2", `"n":2,` + ask, stream{Chunks: []string{"lorem", "elit", " ipsum", " sed"}, Finish: []string{"stop", "stop"}, Final: []usage{{9, 13, 4}}, Done: true}},
		"no DONE":               {"tokens=3,done=no", ask, stream{Chunks: abc, Finish: []string{"stop"}, Final: final}},
		"usage=never":           {"tokens=3,usage=never", ask, stream{Chunks: abc, Finish: []string{"stop"}, Done: true}},
		"usage=chunks":          {"tokens=3,usage=chunks", "", stream{Chunks: abc, Finish: []string{"stop"}, Riding: []usage{{9, 9, 0}, {9, 10, 1}, {9, 11, 2}, {9, 12, 3}}, Final: final, Done: true}},
		"usage=finish":          {"tokens=3,usage=finish", "", stream{Chunks: abc, Finish: []string{"stop"}, Riding: final, Done: true}},
		"usage=finish, n=2":     {"tokens=1,usage=finish", `"n":2,`, stream{Chunks: []string{"lorem", "elit"}, Finish: []string{"stop", "stop"}, Riding: []usage{{9, 10, 1}, {9, 10, 1}}, Done: true}},
		"usage=zeros":           {"tokens=3,usage=zeros", "", stream{Chunks: abc, Finish: []string{"stop"}, Riding: make([]usage, 4), Final: final, Done: true}},
		"text=echo":             {"text=echo", "", stream{Chunks: []string{"Hello", " there", ",", " model", "!"}, Finish: []string{"stop"}, Done: true}},
		"text=echo, longer":     {"text=echo,tokens=7", "", stream{Chunks: []string{"Hello", " there", ",", " model", "!", " Hello", " there"}, Finish: []string{"stop"}, Done: true}},
		"text=echo, cut":        {"text=echo", `"max_tokens":2,`, stream{Chunks: []string{"Hello", " there"}, Finish: []string{"length"}, Done: true}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := start(t, test.script)
			got := b.post(t, chatPath, `{"stream":true,`+test.members+hello+`}`)
			if got.err != nil || got.status != 200 {
				t.Fatalf("status %d, error %v", got.status, got.err)
			}
			if diff := cmp.Diff(test.want, read(t, got.body)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			e := b.only(t)
			if sent := len(test.want.Final) > 0 || strings.Contains(name, "finish"); e.UsageSent != sent {
				t.Errorf("ledger says usage sent: %v, want %v", e.UsageSent, sent)
			}
			if e.Outcome != OutcomeComplete || e.Prompt != 9 {
				t.Errorf("ledger has %+v", e)
			}
		})
	}
}

// The header overrides the model's script member by member.
func TestHeaderOverridesModel(t *testing.T) {
	b := start(t, "tokens=3,usage=chunks,fail=status:500")
	got := b.post(t, chatPath, `{"stream":true,`+hello+`}`, "X-Simulate", "tokens=1,fail=none")
	want := stream{Chunks: []string{"lorem"}, Finish: []string{"stop"}, Riding: []usage{{9, 9, 0}, {9, 10, 1}}, Final: []usage{{9, 10, 1}}, Done: true}
	if diff := cmp.Diff(want, read(t, got.body)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Without a model the first is meant, as with vLLM.
func TestDefaultModelAndText(t *testing.T) {
	b := startWith(t, Options{})
	got := read(t, b.post(t, chatPath, `{"stream":true,"stream_options":{"include_usage":true},`+hello+`}`).body)
	text := strings.Join(got.Chunks, "")
	if text != demoAnswer(prompt{last: "Hello there, model!", turns: 1}) {
		t.Errorf("got %q", text)
	}
	if got.Final[0].Completion != int64(len(got.Chunks)) {
		t.Errorf("%d chunks, usage %+v", len(got.Chunks), got.Final)
	}
	if e := b.only(t); e.Model != "demo" || e.Completion != int64(len(got.Chunks)) {
		t.Errorf("ledger has %+v", e)
	}
}

// A context that is shorter than what is asked for cuts the answer.
func TestContextCutsAnswer(t *testing.T) {
	b := startWith(t, Options{Models: []Model{{Name: "m", Context: 12, Script: Script{Tokens: 50}}}})
	for _, members := range []string{"", `"max_tokens":10,`} {
		got := read(t, b.post(t, chatPath, `{"stream":true,`+members+hello+`}`).body)
		if len(got.Chunks) != 3 || got.Finish[0] != "length" {
			t.Errorf("%q: got %+v", members, got)
		}
	}
}

// A plain answer says what the stream of the same request says.
func TestPlainEqualsStream(t *testing.T) {
	for _, script := range []string{"tokens=7,per=3", "tokens=4,pad=2", "text=echo", "text=answer,tokens=300", "tokens=0"} {
		t.Run(script, func(t *testing.T) {
			b := start(t, script)
			streamed := read(t, b.post(t, chatPath, `{"stream":true,"stream_options":{"include_usage":true},`+hello+`}`).body)
			plain := b.post(t, chatPath, `{`+hello+`}`)
			got := decode(t, plain.body)
			if want := strings.Join(streamed.Chunks, ""); got.Choices[0].Message.Content != want {
				t.Errorf("text %q, want %q", got.Choices[0].Message.Content, want)
			}
			if diff := cmp.Diff(streamed.Final[0], *got.Usage); diff != "" {
				t.Errorf("usage (-stream +plain):\n%s", diff)
			}
			if plain.header.Get("Content-Length") == "" {
				t.Error("no content-length")
			}
			b.settle(t)
			for _, e := range b.Ledger().Entries() {
				if !e.UsageSent || e.Completion != got.Usage.Completion || e.Status != 200 {
					t.Errorf("ledger has %+v", e)
				}
			}
		})
	}
}

func TestPlainUsageNever(t *testing.T) {
	b := start(t, "usage=never")
	got := b.post(t, completionPath, `{"prompt":"a b"}`)
	if strings.Contains(got.body, "usage") || decode(t, got.body).Choices[0].Text == "" {
		t.Errorf("got %s", got.body)
	}
	if e := b.only(t); e.UsageSent || e.Completion != 16 || e.Prompt != 2 {
		t.Errorf("ledger has %+v", e)
	}
}

// Each prompt of a completion gets n choices, and prompts count once.
func TestManyPrompts(t *testing.T) {
	b := start(t, "text=echo")
	got := decode(t, b.post(t, completionPath, `{"n":2,"prompt":["one two","three"]}`).body)
	var texts []string
	for _, c := range got.Choices {
		texts = append(texts, c.Text)
	}
	if diff := cmp.Diff([]string{"one two", "one two", "three", "three"}, texts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(usage{3, 9, 6}, *got.Usage); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
}

func TestGzip(t *testing.T) {
	b := start(t, "tokens=3,gzip=yes")
	for name, members := range map[string]string{"stream": `"stream":true,`, "plain": ""} {
		t.Run(name, func(t *testing.T) {
			got := b.post(t, chatPath, `{`+members+hello+`}`, "Accept-Encoding", "identity")
			if got.header.Get("Content-Encoding") != "gzip" {
				t.Fatalf("content-encoding %q", got.header.Get("Content-Encoding"))
			}
			z, err := gzip.NewReader(strings.NewReader(got.body))
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(z)
			if err != nil || !strings.Contains(string(text), `"content":`) {
				t.Errorf("got %q, %v", text, err)
			}
		})
	}
}

// An event is one chunk of the body, whatever its size.
func TestEventIsOneHTTPChunk(t *testing.T) {
	for _, script := range []string{"tokens=3", "tokens=3,pad=100000", "tokens=3,gzip=yes"} {
		t.Run(script, func(t *testing.T) {
			b := start(t, script)
			raw, err := b.raw(t, chatPath, `{"stream":true,`+hello+`}`)
			if err != nil {
				t.Fatal(err)
			}
			_, body, _ := strings.Cut(raw, "\r\n\r\n")
			want := 5 // role, 3 tokens, [DONE]
			if strings.Contains(script, "gzip") {
				want++ // its trailer
			}
			if chunks, ended := httpChunks(t, body); len(chunks) != want || !ended {
				t.Errorf("%d chunks, want %d; ended: %v", len(chunks), want, ended)
			}
		})
	}
}
