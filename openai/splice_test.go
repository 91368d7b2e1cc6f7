package openai

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestApply(t *testing.T) {
	all := Edit{Model: "big", MaxTokens: 9, IncludeUsage: true}
	tests := []struct {
		name, body string
		edit       Edit
		want       string // "" when nothing changes
	}{
		{"nothing asked", `{"messages":[],"model":"m","stream":true}`, Edit{}, ""},
		{"nothing to change", `{"messages":[],"model":"m","stream":true,"max_tokens":5,"stream_options":{"include_usage":true}}`, Edit{Model: "m", MaxTokens: 9, IncludeUsage: true}, ""},
		{"no usage without stream", `{"messages":[],"stream":false}`, Edit{IncludeUsage: true}, ""},
		{"model", `{"messages":[], "model" : "m" ,"x":1}`, Edit{Model: "big"}, `{"messages":[], "model" : "big" ,"x":1}`},
		{"model that needs escapes", `{"model":"m","messages":[]}`, Edit{Model: "a\"\\\n\x1fé\xff"}, "{\"model\":\"a\\\"\\\\\\u000a\\u001fé\uFFFD\",\"messages\":[]}"},
		{"model is null", `{"model":null,"messages":[]}`, Edit{Model: "big"}, `{"model":"big","messages":[]}`},
		{"model is absent", ` { "messages":[] } `, Edit{Model: "big"}, ` {"model":"big", "messages":[] } `},
		{"the other limit was given", `{"messages":[],"max_completion_tokens":5}`, Edit{MaxTokens: 9}, ""},
		{"limit is absent", `{"messages":[],"max_completion_tokens":null}`, Edit{MaxTokens: 9}, `{"max_tokens":9,"messages":[],"max_completion_tokens":null}`},
		{"limit is null", `{"messages":[],"max_tokens":null}`, Edit{MaxTokens: 9}, `{"messages":[],"max_tokens":9}`},
		{"options are absent", `{"messages":[],"stream":true}`, Edit{IncludeUsage: true}, `{"stream_options":{"include_usage":true},"messages":[],"stream":true}`},
		{"options are null", `{"messages":[],"stream":true,"stream_options":null}`, Edit{IncludeUsage: true}, `{"messages":[],"stream":true,"stream_options":{"include_usage":true}}`},
		{"options are empty", `{"messages":[],"stream":true,"stream_options":{ }}`, Edit{IncludeUsage: true}, `{"messages":[],"stream":true,"stream_options":{"include_usage":true }}`},
		{"options without usage", `{"messages":[],"stream":true,"stream_options":{ "x":{}}}`, Edit{IncludeUsage: true}, `{"messages":[],"stream":true,"stream_options":{"include_usage":true, "x":{}}}`},
		{"usage is false", `{"messages":[],"stream":true,"stream_options":{"include_usage": false }}`, Edit{IncludeUsage: true}, `{"messages":[],"stream":true,"stream_options":{"include_usage": true }}`},
		{"usage is null", `{"messages":[],"stream":true,"stream_options":{"include_usage":null}}`, Edit{IncludeUsage: true}, `{"messages":[],"stream":true,"stream_options":{"include_usage":true}}`},
		{"all at once", `{"stream":true,"messages":[]}`, all, `{"model":"big","max_tokens":9,"stream_options":{"include_usage":true},"stream":true,"messages":[]}`},
		{"all in place", `{"messages":[],"stream_options":null,"stream":true,"max_tokens":null,"model":"m"}`, all, `{"messages":[],"stream_options":{"include_usage":true},"stream":true,"max_tokens":9,"model":"big"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := []byte(tt.body)
			r, err := ParseRequest(ChatCompletions, body)
			if err != nil {
				t.Fatal(err)
			}
			got := r.Apply(body, tt.edit)
			if tt.want == "" {
				if &got[0] != &body[0] || len(got) != len(body) {
					t.Errorf("got %s, want the body itself", got)
				}
				return
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("edited (-want +got):\n%s", diff)
			}
			if string(body) != tt.body {
				t.Errorf("the original became %s", body)
			}
		})
	}
}

func TestApplyToEmptyObject(t *testing.T) {
	body := []byte(`{}`)
	r, err := ParseRequest(Unknown, body)
	if err != nil {
		t.Fatal(err)
	}
	got := string(r.Apply(body, Edit{Model: "m", MaxTokens: 1}))
	if diff := cmp.Diff(`{"model":"m","max_tokens":1}`, got); diff != "" {
		t.Errorf("edited (-want +got):\n%s", diff)
	}
}

func TestApplyAllocates(t *testing.T) {
	body := []byte(chat(`"stream":true`))
	r, err := ParseRequest(ChatCompletions, body)
	if err != nil {
		t.Fatal(err)
	}
	if got := testing.AllocsPerRun(100, func() {
		r.Apply(body, Edit{Model: "m", MaxTokens: 1, IncludeUsage: true})
	}); got != 1 {
		t.Errorf("%v allocations, want 1", got)
	}
}

// The edited body says what the original said, but for the edit.
func TestApplyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body, edit := drawBody(t), drawEdit(t)
		checkApply(t, body, edit)
	})
}

// fataler is what rapid's T and testing's have in common.
type fataler interface {
	Fatalf(format string, args ...any)
}

// checkApply compares Apply with an edit of the decoded body.
func checkApply(t fataler, body []byte, edit Edit) {
	r, refusal := ParseRequest(ChatCompletions, body)
	if refusal != nil {
		return
	}
	edited := r.Apply(body, edit)
	want, got := decode(t, body), decode(t, edited)
	if edit.Model != "" {
		want["model"] = string([]rune(edit.Model)) // invalid UTF-8 becomes U+FFFD
	}
	if edit.MaxTokens > 0 && r.MaxTokens == 0 {
		want["max_tokens"] = float64(edit.MaxTokens)
	}
	if edit.IncludeUsage && r.Stream {
		options, _ := want["stream_options"].(map[string]any)
		if options == nil {
			options = map[string]any{}
		}
		options["include_usage"] = true
		want["stream_options"] = options
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%s\nedited %s\n(-want +got):\n%s", body, edited, diff)
	}
	if _, err := ParseRequest(ChatCompletions, edited); err != nil && visible([]byte(edit.Model)) {
		t.Fatalf("%s: edited %s is refused: %v", body, edited, err)
	}
}

func decode(t fataler, body []byte) map[string]any {
	var v map[string]any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	return v
}

// drawBody draws a body with members in any order and with odd spaces.
func drawBody(t *rapid.T) []byte {
	members := map[string][]string{
		"model":                 {`"m"`, `null`, `"a\/b"`},
		"stream":                {`true`, `true`, `false`, `null`},
		"stream_options":        {`null`, `{}`, `{ }`, `{"include_usage":true}`, `{"include_usage": null,"x":1}`, `{"x":[],"include_usage":false}`},
		"max_tokens":            {`null`, `5`},
		"max_completion_tokens": {`null`, `7`},
		"messages":              {`[]`, `[{"content":"a\"}"}]`},
		"x":                     {`0`, `{"model":"no"}`, `"\\"`},
	}
	names := rapid.Permutation([]string{"model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "messages", "x"}).Draw(t, "order")
	space := func() string { return rapid.SampledFrom([]string{"", "", " ", "\r\n\t"}).Draw(t, "space") }
	body := space() + "{" + space()
	comma := ""
	for _, name := range names {
		if name != "messages" && rapid.Bool().Draw(t, "absent") {
			continue
		}
		value := rapid.SampledFrom(members[name]).Draw(t, name)
		body += comma + space() + `"` + name + `"` + space() + ":" + space() + value + space()
		comma = ","
	}
	return []byte(body + "}" + space())
}

func drawEdit(t *rapid.T) Edit {
	return Edit{
		Model:        rapid.OneOf(rapid.Just(""), rapid.Just("m"), rapid.String()).Draw(t, "model"),
		MaxTokens:    rapid.Int64Range(-1, 1<<31-1).Draw(t, "max_tokens"),
		IncludeUsage: rapid.Bool().Draw(t, "include_usage"),
	}
}
