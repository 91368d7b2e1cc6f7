package openai

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// Golden: a line for each error that a real server has answered.
func TestNormalizeRecorded(t *testing.T) {
	var b strings.Builder
	for _, r := range recordings(t, isError) {
		e := NormalizeError(r.Status, r.endpoint(), r.body)
		if e.Status != r.Status || e.Source != SourceUpstream {
			t.Errorf("%s: status %d, source %q", r.File, e.Status, e.Source)
		}
		fmt.Fprintf(&b, "%s %d\n\t%s\n", r.File, r.Status, e.Body())
	}
	golden := filepath.Join("testdata", "normalize.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("normalised errors (-want +got):\n%s", diff)
	}
}

func TestNormalizeError(t *testing.T) {
	tests := []struct {
		name   string
		status int
		ep     Endpoint
		body   string
		want   Error
	}{
		{"empty", 503, ChatCompletions, " \n", Error{Type: TypeUnavailable, Message: "The upstream answered 503 Service Unavailable without a message."}},
		{"unknown status", 599, ChatCompletions, "", Error{Type: TypeServer, Message: "The upstream answered 599 without a message."}},
		{"html", 502, ChatCompletions, "<html><h1>Bad Gateway</h1>", Error{Type: TypeServer, Message: "The upstream answered 502 Bad Gateway without a message."}},
		{"text", 500, ChatCompletions, "out of cheese\n", Error{Type: TypeServer, Message: "out of cheese"}},
		{"text that is not UTF-8", 500, ChatCompletions, "a\xff\xfeb", Error{Type: TypeServer, Message: "a?b"}},
		{"error as a string", 401, ChatCompletions, `{"error":"Unauthorized"}`, Error{Type: TypeInvalidRequest, Message: "Unauthorized"}},
		{"detail", 404, ChatCompletions, `{"detail":"Not Found"}`, Error{Type: TypeInvalidRequest, Message: "Not Found"}},
		{
			"detail as a list", 422, ChatCompletions,
			`{"detail":[{"loc":["body","n"],"msg":"Input should be a valid integer","type":"int"},{"loc":["body",3],"msg":"x"}]}`,
			Error{Type: TypeInvalidRequest, Message: "n: Input should be a valid integer; x"},
		},
		{
			"flat object of older vLLM", 400, Completions,
			`{"object":"error","message":"bad","type":"BadRequestError","param":null,"code":400}`,
			Error{Type: TypeInvalidRequest, Message: "bad"},
		},
		{"error is null", 500, ChatCompletions, `{"error":null}`, Error{Type: TypeServer, Message: "The upstream answered 500 Internal Server Error without a message."}},
		{"error is a number", 500, ChatCompletions, `{"error":5}`, Error{Type: TypeServer, Message: "The upstream answered 500 Internal Server Error without a message."}},
		{"type and code kept", 400, ChatCompletions, `{"error":{"message":"m","type":"my_error","param":"top_p","code":"my_code"}}`, Error{Type: "my_error", Code: "my_code", Param: "top_p", Message: "m"}},
		{"forbidden", 403, ChatCompletions, `{"error":{"message":"m","type":"PermissionDeniedError"}}`, Error{Type: TypePermission, Message: "m"}},
		{"rate limit", 429, ChatCompletions, `{"error":{"message":"m","type":"TooManyRequests","code":429}}`, Error{Type: TypeRequests, Code: CodeRateLimit, Message: "m"}},
		{"token limit", 429, ChatCompletions, `{"error":{"message":"m","type":"tokens","code":"rate_limit_exceeded"}}`, Error{Type: "tokens", Code: CodeRateLimit, Message: "m"}},
		{"model named by Ollama", 404, ChatCompletions, `{"error":"model \"x\" not found, try pulling it first"}`, Error{Type: TypeInvalidRequest, Code: CodeModelNotFound, Param: "model", Message: `model "x" not found, try pulling it first`}},
		{"404 about something else", 404, ChatCompletions, `{"error":"File Not Found"}`, Error{Type: TypeInvalidRequest, Message: "File Not Found"}},
		{
			"context window of a completion", 400, Completions,
			`{"error":{"message":"This model's maximum context length is 10 tokens.","type":"BadRequestError","param":"input_tokens","code":400}}`,
			Error{Type: TypeInvalidRequest, Code: CodeContextLength, Param: "prompt", Message: "This model's maximum context length is 10 tokens."},
		},
		{"negative max_tokens is no context error", 400, ChatCompletions, `{"error":{"message":"max_tokens must be at least 1, got -5."}}`, Error{Type: TypeInvalidRequest, Message: "max_tokens must be at least 1, got -5."}},
		{"context words in a 500", 500, ChatCompletions, `{"error":{"message":"maximum context length"}}`, Error{Type: TypeServer, Message: "maximum context length"}},
		{"context error of llama.cpp", 500, ChatCompletions, `{"error":{"message":"m","type":"exceed_context_size_error"}}`, Error{Type: TypeInvalidRequest, Code: CodeContextLength, Param: "messages", Message: "m"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.Status, tt.want.Source = tt.status, SourceUpstream
			got := NormalizeError(tt.status, tt.ep, []byte(tt.body))
			if diff := cmp.Diff(&tt.want, got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNormalizeErrorBoundsMessage(t *testing.T) {
	for _, text := range []string{strings.Repeat("é", 9000), "a" + strings.Repeat("é", 9000), strings.Repeat("\x80", 9000)} {
		m := NormalizeError(500, ChatCompletions, []byte(text)).Message
		if len(m) > maxMessage || !utf8.ValidString(m) || m == "" {
			t.Errorf("message of %d bytes, valid %v", len(m), utf8.ValidString(m))
		}
	}
}
