package openai

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// chat returns a body with messages and the members given.
func chat(members string) string {
	return `{` + members + `,"messages":[{"role":"user","content":"hi"}]}`
}

func TestParseRequest(t *testing.T) {
	long := strings.Repeat("é", maxModel)
	tests := []struct {
		name string
		ep   Endpoint
		body string
		want Request
	}{
		{"least chat", ChatCompletions, `{"messages":[]}`, Request{N: 1}},
		{"least completion", Completions, `{"prompt":""}`, Request{N: 1}},
		{"unknown endpoint", Unknown, ` {} `, Request{N: 1}},
		{
			"all members", ChatCompletions,
			"\r\n\t" + chat(`"model":"tiny","stream":true,"n":3,"max_tokens":5,"stream_options":{"include_usage":true,"x":[{}]}`) + "\n",
			Request{Model: "tiny", Stream: true, N: 3, MaxTokens: 5, IncludeUsage: true},
		},
		{
			"nulls are absent", ChatCompletions,
			chat(`"model":null,"stream":null,"n":null,"max_tokens":null,"max_completion_tokens":null,"stream_options":null`),
			Request{N: 1},
		},
		{"null usage", ChatCompletions, chat(`"stream":true,"stream_options":{"include_usage":null}`), Request{N: 1, Stream: true}},
		{"options without stream", ChatCompletions, chat(`"stream_options":{"include_usage":true}`), Request{N: 1, IncludeUsage: true}},
		{"the larger limit, first", ChatCompletions, chat(`"max_tokens":7,"max_completion_tokens":5`), Request{N: 1, MaxTokens: 7}},
		{"the larger limit, last", ChatCompletions, chat(`"max_tokens":5,"max_completion_tokens":2147483647`), Request{N: 1, MaxTokens: 1<<31 - 1}},
		{"model with escapes", ChatCompletions, chat(`"model":"a\/\u0062\ud83d\ude00"`), Request{N: 1, Model: "a/b😀"}},
		{"longest model", ChatCompletions, chat(`"model":"` + long + `"`), Request{N: 1, Model: long}},
		{"unknown members", ChatCompletions, chat(`"x":{"model":1,"model":2},"Ünbekannt":[1e5,-0.5E-3,0,true,false,null,"\ud800\n"]`), Request{N: 1}},
		{"prompt of another endpoint", ChatCompletions, chat(`"prompt":5`), Request{N: 1}},
		{"token ids", Completions, `{"prompt":[1,2,3]}`, Request{N: 1}},
		{"deepest nesting", ChatCompletions, chat(`"x":` + strings.Repeat("[", maxDepth-1) + strings.Repeat("]", maxDepth-1)), Request{N: 1}},
		{"most members", Unknown, manyMembers(maxMembers), Request{N: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseRequest(tt.ep, []byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			tt.want.Endpoint = tt.ep
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreUnexported(Request{})); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
}

func manyMembers(n int) string {
	var members []string
	for i := range n {
		members = append(members, fmt.Sprintf(`"m%d":0`, i))
	}
	return "{" + strings.Join(members, ",") + "}"
}

func TestParseRequestRefuses(t *testing.T) {
	const early = ". Send the complete body."
	tests := []struct {
		name, body, code, param, message string
	}{
		// The body as a whole.
		{"empty", "", CodeInvalidJSON, "", "The request body is empty, at byte 0. Send a JSON object."},
		{"only space", " \n", CodeInvalidJSON, "", "The request body is empty, at byte 2. Send a JSON object."},
		{"array", " []", CodeInvalidJSON, "", "The request body must be a JSON object, but begins with '[' at byte 1. Send an object."},
		{"garbage", "model=x", CodeInvalidJSON, "", "The request body must be a JSON object, but begins with 'm' at byte 0. Send an object."},
		{"NUL", "\x00", CodeInvalidJSON, "", `The request body must be a JSON object, but begins with '\x00' at byte 0. Send an object.`},
		{"byte order mark", "\uFEFF{}", CodeInvalidJSON, "", "The request body begins with a byte order mark, at byte 0. Send UTF-8 without one."},
		{"UTF-16", "\xff\xfe{\x00", CodeInvalidJSON, "", "The request body is not valid UTF-8 at byte 0. Encode it as UTF-8."},
		{"bad UTF-8 in a string", chat("\"x\":\"a\xc3\""), CodeInvalidJSON, "", "The request body is not valid UTF-8 at byte 7. Encode it as UTF-8."},
		{"surrogate in UTF-8", chat("\"x\":\"\xed\xa0\x80\""), CodeInvalidJSON, "", "The request body is not valid UTF-8 at byte 6. Encode it as UTF-8."},
		{"overlong UTF-8", chat("\"x\":\"\xc0\xaf\""), CodeInvalidJSON, "", "The request body is not valid UTF-8 at byte 6. Encode it as UTF-8."},
		{"trailing text", `{"messages":[]} x`, CodeInvalidJSON, "", "There is more text after the JSON object, at byte 16. Send one object and nothing after it."},
		{"two objects", `{"messages":[]}{}`, CodeInvalidJSON, "", "There is more text after the JSON object, at byte 15. Send one object and nothing after it."},
		{"too many members", manyMembers(maxMembers + 1), CodeInvalidJSON, "m512", "The request has more than 512 members at byte 4499. Leave out those it does not need."},

		// Syntax.
		{"cut off after the brace", `{`, CodeInvalidJSON, "", "The JSON ends too early, at byte 1: expected a member's name in double quotes" + early},
		{"cut off in a name", `{"mod`, CodeInvalidJSON, "", "The JSON ends inside the string that begins at byte 1" + early},
		{"cut off after a name", `{"n"`, CodeInvalidJSON, "", `The JSON ends too early, at byte 4: expected ":" after a member's name` + early},
		{"cut off before a value", `{"x":`, CodeInvalidJSON, "x", "The JSON ends too early, at byte 5: expected a value" + early},
		{"cut off after a value", `{"x":1`, CodeInvalidJSON, "", `The JSON ends too early, at byte 6: expected "," or "}" after a member` + early},
		{"cut off in an array", `{"x":[1`, CodeInvalidJSON, "x", `The JSON ends too early, at byte 7: expected "," or "]" after an element` + early},
		{"cut off in a number", `{"x":-`, CodeInvalidJSON, "x", "The JSON ends too early, at byte 6: expected a digit" + early},
		{"trailing comma", `{"x":1,}`, CodeInvalidJSON, "", "Unexpected character '}' at byte 7: expected a member's name in double quotes. Correct the JSON."},
		{"trailing comma in an array", `{"x":[1,]}`, CodeInvalidJSON, "x", "Unexpected character ']' at byte 8: expected a value. Correct the JSON."},
		{"wrong bracket", `{"x":[1}}`, CodeInvalidJSON, "x", `Unexpected character '}' at byte 7: expected "," or "]" after an element. Correct the JSON.`},
		{"single quotes", `{'x':1}`, CodeInvalidJSON, "", `Unexpected character '\'' at byte 1: expected a member's name in double quotes. Correct the JSON.`},
		{"missing colon", `{"x" 1}`, CodeInvalidJSON, "", `Unexpected character '1' at byte 5: expected ":" after a member's name. Correct the JSON.`},
		{"literal in upper case", `{"x":True}`, CodeInvalidJSON, "x", "Unexpected character 'T' at byte 5: expected a value. Correct the JSON."},
		{"literal misspelt", `{"x":nul}`, CodeInvalidJSON, "x", "Unexpected character 'n' at byte 5: expected a value. Correct the JSON."},
		{"NaN", chat(`"temperature":NaN`), CodeInvalidJSON, "temperature", "NaN at byte 15 is not a JSON number. Send a finite number or null."},
		{"minus infinity", chat(`"x":[-Infinity]`), CodeInvalidJSON, "x", "-Infinity at byte 6 is not a JSON number. Send a finite number or null."},
		{"leading zero", `{"x":01}`, CodeInvalidJSON, "", `Unexpected character '1' at byte 6: expected "," or "}" after a member. Correct the JSON.`},
		{"plus sign", `{"x":+1}`, CodeInvalidJSON, "x", "Unexpected character '+' at byte 5: expected a value. Correct the JSON."},
		{"no digits after the point", `{"x":1.}`, CodeInvalidJSON, "x", "Unexpected character '}' at byte 7: expected a digit. Correct the JSON."},
		{"no exponent", `{"x":1e+}`, CodeInvalidJSON, "x", "Unexpected character '}' at byte 8: expected a digit. Correct the JSON."},
		{"character beyond ASCII", `{"x":é}`, CodeInvalidJSON, "x", "Unexpected character 'é' at byte 5: expected a value. Correct the JSON."},
		{"line end in a string", "{\"x\":\"a\nb\"}", CodeInvalidJSON, "x", `Control character U+000A in a string at byte 7. Write it as \u000a.`},
		{"control character far into a string", "{\"x\":\"" + strings.Repeat("a", 99) + "\x1f\"}", CodeInvalidJSON, "x", `Control character U+001F in a string at byte 105. Write it as \u001f.`},
		{"bad escape", `{"x":"a\x"}`, CodeInvalidJSON, "x", `Invalid escape sequence in a string at byte 7. Write a backslash as "\\".`},
		{"bad hexadecimal escape", `{"x":"\u12g4"}`, CodeInvalidJSON, "x", `Invalid escape sequence in a string at byte 6. Write a backslash as "\\".`},
		{"nested too deep", `{"x":` + strings.Repeat("[", maxDepth), CodeInvalidJSON, "x", "The JSON is nested deeper than 128 levels at byte 132. Send a flatter body."},

		// Names that two readers could take for different ones.
		{"duplicate", `{"model":"a","model":"b"}`, CodeDuplicate, "model", "Duplicate parameter 'model' at byte 13. Send it once."},
		{"duplicate of an unknown name", `{"x":1,"\u0078":2}`, CodeDuplicate, "x", "Duplicate parameter 'x' at byte 7. Send it once."},
		{"duplicate lone surrogate", `{"\ud800":1,"\uD800":2}`, CodeDuplicate, "?", "Duplicate parameter '?' at byte 12. Send it once."},
		{"duplicate pair of surrogates", `{"😀":1,"\ud83d\ude00":2}`, CodeDuplicate, "😀", "Duplicate parameter '😀' at byte 10. Send it once."},
		{"duplicate of a long name", `{"` + strings.Repeat("x", 65) + `":1,"` + strings.Repeat("x", 65) + `":2}`, CodeDuplicate, "", "Duplicate parameter '' at byte 71. Send it once."},
		{"name in upper case", `{"MODEL":"a"}`, CodeInvalidValue, "MODEL", "The name of the member at byte 1 is not written as 'model'. Write it in lower case and without escapes."},
		{"name with escapes", `{"mod\u0065l":"a"}`, CodeInvalidValue, "model", "The name of the member at byte 1 is not written as 'model'. Write it in lower case and without escapes."},
		{"name with escaped upper case", `{"\u004eD":1,"\u004e":1}`, CodeInvalidValue, "N", "The name of the member at byte 13 is not written as 'n'. Write it in lower case and without escapes."},
		{"Kelvin sign", "{\"max_to\u212Aens\":1}", CodeInvalidValue, "max_to\u212Aens", "The name of the member at byte 1 is not written as 'max_tokens'. Write it in lower case and without escapes."},
		{"long s", "{\"\u017Ftream\":true}", CodeInvalidValue, "\u017Ftream", "The name of the member at byte 1 is not written as 'stream'. Write it in lower case and without escapes."},
		{"name of a bounded extension", `{"Best_of":9}`, CodeInvalidValue, "Best_of", "The name of the member at byte 1 is not written as 'best_of'. Write it in lower case and without escapes."},

		// Values of the wrong type.
		{"model is a number", chat(`"model":5`), CodeInvalidType, "model", "Invalid type for 'model' at byte 9: expected a string, but got a number. Send a string."},
		{"model is empty", chat(`"model":""`), CodeInvalidValue, "model", "Invalid value for 'model' at byte 9: expected 1 to 256 visible characters without spaces. Send a model's name."},
		{"model with a space", chat(`"model":"a b"`), CodeInvalidValue, "model", "Invalid value for 'model' at byte 9: expected 1 to 256 visible characters without spaces. Send a model's name."},
		{"model with an escaped NUL", chat(`"model":"a\u0000"`), CodeInvalidValue, "model", "Invalid value for 'model' at byte 9: expected 1 to 256 visible characters without spaces. Send a model's name."},
		{"model with a lone surrogate", chat(`"model":"\udc00"`), CodeInvalidValue, "model", "Invalid value for 'model' at byte 9: expected 1 to 256 visible characters without spaces. Send a model's name."},
		{"model with a zero-width space", chat("\"model\":\"a\u200b\""), CodeInvalidValue, "model", "Invalid value for 'model' at byte 9: expected 1 to 256 visible characters without spaces. Send a model's name."},
		{"model too long", chat(`"model":"` + strings.Repeat("a", maxModel+1) + `"`), CodeInvalidValue, "model", "Invalid value for 'model' at byte 9: expected 1 to 256 visible characters without spaces. Send a model's name."},
		{"stream is a string", chat(`"stream":"true"`), CodeInvalidType, "stream", "Invalid type for 'stream' at byte 10: expected true, false or null, but got a string. Send true, false or null."},
		{"stream is a number", chat(`"stream":1`), CodeInvalidType, "stream", "Invalid type for 'stream' at byte 10: expected true, false or null, but got a number. Send true, false or null."},
		{"max_tokens is a string", chat(`"max_tokens":"5"`), CodeInvalidType, "max_tokens", "Invalid type for 'max_tokens' at byte 14: expected an integer, but got a string. Send an integer."},
		{"max_tokens is a boolean", chat(`"max_tokens":true`), CodeInvalidType, "max_tokens", "Invalid type for 'max_tokens' at byte 14: expected an integer, but got a boolean. Send an integer."},
		{"max_tokens is zero", chat(`"max_tokens":0`), CodeInvalidValue, "max_tokens", "Invalid value for 'max_tokens' at byte 14: expected an integer from 1 to 2147483647, but got 0. Correct it or leave it out."},
		{"max_tokens is negative", chat(`"max_tokens":-1`), CodeInvalidValue, "max_tokens", "Invalid value for 'max_tokens' at byte 14: expected an integer from 1 to 2147483647, but got -1. Correct it or leave it out."},
		{"max_tokens is a fraction", chat(`"max_tokens":5.0`), CodeInvalidValue, "max_tokens", "Invalid value for 'max_tokens' at byte 14: expected an integer from 1 to 2147483647, but got 5.0. Correct it or leave it out."},
		{"max_completion_tokens has an exponent", chat(`"max_completion_tokens":1e1`), CodeInvalidValue, "max_completion_tokens", "Invalid value for 'max_completion_tokens' at byte 25: expected an integer from 1 to 2147483647, but got 1e1. Correct it or leave it out."},
		{"n is too large", chat(`"n":2147483648`), CodeInvalidValue, "n", "Invalid value for 'n' at byte 5: expected an integer from 1 to 2147483647, but got 2147483648. Correct it or leave it out."},
		{"n is far too large", chat(`"n":` + strings.Repeat("9", 100)), CodeInvalidValue, "n", "Invalid value for 'n' at byte 5: expected an integer from 1 to 2147483647, but got " + strings.Repeat("9", 24) + ". Correct it or leave it out."},
		{"n is NaN", chat(`"n":NaN`), CodeInvalidJSON, "n", "NaN at byte 5 is not a JSON number. Send a finite number or null."},
		{"stream_options is an array", chat(`"stream_options":[]`), CodeInvalidType, "stream_options", "Invalid type for 'stream_options' at byte 18: expected an object or null, but got an array. Send an object or null."},
		{"include_usage is a string", chat(`"stream_options":{"include_usage":"yes"}`), CodeInvalidType, "stream_options.include_usage", "Invalid type for 'stream_options.include_usage' at byte 35: expected true, false or null, but got a string. Send true, false or null."},
		{"include_usage twice", chat(`"stream_options":{"include_usage":false,"include_usage":true}`), CodeDuplicate, "stream_options.include_usage", "Duplicate parameter 'stream_options.include_usage' at byte 41. Send it once."},
		{"include_usage with escapes", chat(`"stream_options":{"includ\u0065_usage":true}`), CodeInvalidValue, "stream_options.include_usage", "The name of the member at byte 19 is not written as 'include_usage'. Write it in lower case and without escapes."},
		{"unknown option twice", chat(`"stream_options":{"x":1,"x":1}`), CodeDuplicate, "stream_options.x", "Duplicate parameter 'stream_options.x' at byte 25. Send it once."},
		{"too many options", chat(`"stream_options":` + manyMembers(maxOptions+1)), CodeInvalidJSON, "stream_options.m32", "'stream_options' has more than 32 members at byte 265. Leave out those it does not need."},
		{"options cut off", `{"stream_options":{"include_usage":true`, CodeInvalidJSON, "stream_options", `The JSON ends too early, at byte 39: expected "," or "}" after a member` + early},
		{"messages missing", `{"prompt":"x"}`, CodeMissingParameter, "messages", "Missing required parameter: 'messages'. Send an array of messages."},
		{"messages is null", `{"messages":null}`, CodeInvalidType, "messages", "Invalid type for 'messages' at byte 12: expected an array, but got null. Send an array."},
		{"messages is a string", `{"messages":"x"}`, CodeInvalidType, "messages", "Invalid type for 'messages' at byte 12: expected an array, but got a string. Send an array."},
		{"messages is garbage", `{"messages":x}`, CodeInvalidJSON, "messages", "Unexpected character 'x' at byte 12: expected a value. Correct the JSON."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, got := ParseRequest(ChatCompletions, []byte(tt.body))
			want := &Error{Status: 400, Type: TypeInvalidRequest, Code: tt.code, Param: tt.param, Message: tt.message}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseRequestRefusesCompletion(t *testing.T) {
	for body, want := range map[string]string{
		`{"messages":[]}`: "Missing required parameter: 'prompt'. Send a string or an array.",
		`{"prompt":null}`: "Invalid type for 'prompt' at byte 10: expected a string or an array, but got null. Send a string or an array.",
		`{"prompt":{}}`:   "Invalid type for 'prompt' at byte 10: expected a string or an array, but got an object. Send a string or an array.",
	} {
		_, err := ParseRequest(Completions, []byte(body))
		if err == nil || err.Message != want || err.Param != "prompt" {
			t.Errorf("%s: got %v, want %s", body, err, want)
		}
	}
}

// Whatever json.Valid accepts as an object is accepted too, unless it breaks one
// of the rules that go beyond JSON; and never the other way round.
func TestParseRequestAgreesWithEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.SliceOfN(rapid.SampledFrom([]string{
			`{`, `}`, `[`, `]`, `,`, `:`, `"a"`, `"b"`, `"\n"`, `"\u00e9"`, `1`, `-0`, `1.5e9`, `01`, `true`, `null`, ` `, "\n", `"`, `\`, "é", "\x00",
		}), 0, 12).Draw(t, "tokens")
		text := `{"x":[` + strings.Join(body, "") + `]}`
		_, err := ParseRequest(Unknown, []byte(text))
		if got, want := err == nil, json.Valid([]byte(text)); got != want {
			t.Fatalf("%q: accepted %v, valid %v: %v", text, got, want, err)
		}
	})
}

func TestParseRequestAllocates(t *testing.T) {
	body := []byte(chat(`"model":"tiny","stream":true,"n":1,"max_tokens":5,"stream_options":{"include_usage":false},"x":{"y":[1,2.5,"z\n"]}`))
	if got := testing.AllocsPerRun(100, func() {
		if _, err := ParseRequest(ChatCompletions, body); err != nil {
			t.Fatal(err)
		}
	}); got > 1 {
		t.Errorf("%v allocations, want 1 for the model's name", got)
	}
}

func TestPlainPrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.SampledFrom([]byte("abc !#[]{}\x7f\x80\xa2\xdc\xff\x1f\x00\"\\")), 0, 40).Draw(t, "b")
		want := 0
		for want < len(b) && b[want] >= ' ' && b[want] != '"' && b[want] != '\\' {
			want++
		}
		if got := plainPrefix(b); got != want {
			t.Fatalf("plainPrefix(%q) = %d, want %d", b, got, want)
		}
	})
}
