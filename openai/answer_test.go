package openai

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// answered is all that a PlainAnswer told of an answer.
type answered struct {
	Usage              Usage
	HasUsage, Complete bool
}

func readAnswer(pieces ...[]byte) answered { return readAnswerOf(Unknown, pieces...) }

func readAnswerOf(ep Endpoint, pieces ...[]byte) answered {
	a := PlainAnswer{Endpoint: ep}
	for i, p := range pieces {
		a.Write(p, i == len(pieces)-1)
	}
	var got answered
	got.Usage, got.HasUsage = a.Usage()
	got.Complete = a.Complete()
	return got
}

// However a recorded answer is cut, its usage is what encoding/json reads.
func TestPlainAnswerRecorded(t *testing.T) {
	for _, r := range recordings(t, isPlain) {
		t.Run(r.File, func(t *testing.T) {
			want := answered{Complete: true}
			want.Usage, want.HasUsage = decodedUsage(t, r)
			split(r.body, func(pieces ...[]byte) {
				if got := readAnswerOf(r.endpoint(), pieces...); got != want {
					t.Fatalf("%d pieces, the first of %d bytes (-want +got):\n%s", len(pieces), len(pieces[0]), cmp.Diff(want, got))
				}
			})
		})
	}
}

// decodedUsage is the usage of a recorded answer as encoding/json reads it.
func decodedUsage(t *testing.T, r recording) (u Usage, ok bool) {
	t.Helper()
	type details struct {
		CachedTokens    int64 `json:"cached_tokens"`
		ReasoningTokens int64 `json:"reasoning_tokens"`
	}
	var v struct {
		Usage *struct {
			PromptTokens            int64   `json:"prompt_tokens"`
			CompletionTokens        int64   `json:"completion_tokens"`
			InputTokens             int64   `json:"input_tokens"`
			OutputTokens            int64   `json:"output_tokens"`
			CacheRead               int64   `json:"cache_read_input_tokens"`
			CacheCreation           int64   `json:"cache_creation_input_tokens"`
			PromptTokensDetails     details `json:"prompt_tokens_details"`
			CompletionTokensDetails details `json:"completion_tokens_details"`
			InputTokensDetails      details `json:"input_tokens_details"`
			OutputTokensDetails     details `json:"output_tokens_details"`
		}
	}
	if err := json.Unmarshal(r.body, &v); err != nil {
		t.Fatal(err)
	}
	if v.Usage == nil {
		if r.endpoint() != CountTokens {
			t.Fatal("no usage")
		}
		return Usage{}, false
	}
	return Usage{
		Input:     v.Usage.PromptTokens + v.Usage.InputTokens + v.Usage.CacheRead + v.Usage.CacheCreation,
		Output:    v.Usage.CompletionTokens + v.Usage.OutputTokens,
		Cached:    v.Usage.PromptTokensDetails.CachedTokens + v.Usage.InputTokensDetails.CachedTokens + v.Usage.CacheRead,
		Reasoning: v.Usage.CompletionTokensDetails.ReasoningTokens + v.Usage.OutputTokensDetails.ReasoningTokens,
	}, true
}

func TestPlainAnswer(t *testing.T) {
	const u = `{"prompt_tokens":4,"completion_tokens":2}`
	found := answered{Usage{Input: 4, Output: 2}, true, true}
	none := answered{Complete: true}
	cut := answered{}
	tests := []struct {
		name, body string
		want       answered
	}{
		{"usage", ` {"usage" : ` + u + `} `, found},
		{"of the first choice", `{"choices":[{"index":0,"usage":` + u + `},{"usage":{"prompt_tokens":9}}]}`, found},
		{"Groq's", `{"x_groq":{"id":"x","usage":` + u + `}}`, found},
		{"a null after it", `{"usage":` + u + `,"usage":null}`, found},
		{"the last sane one", `{"usage":{"prompt_tokens":1},"x_groq":{"usage":` + u + `},"choices":[{"usage":{"prompt_tokens":-1}}]}`, found},
		{"after large data", `{"data":[{"embedding":[` + strings.Repeat("-0.0123,", 999) + `1e-5]}],"usage":` + u + `}`, found},
		{"text that looks like usage", `{"choices":[{"message":{"content":"\"usage\":` + strings.ReplaceAll(u, `"`, `\"`) + `\\"}}]}`, none},
		{"usage elsewhere", `{"a":{"usage":` + u + `},"b":[{"usage":` + u + `}],"choices":[0,{"usage":` + u + `}],"c":["usage",` + u + `]}`, none},
		{"usage deeper", `{"choices":[{"x":{"usage":` + u + `}}],"x_groq":[{"usage":` + u + `}]}`, none},
		{"usage as a list", `{"usage":[` + u + `]}`, none},
		{"a longer name", `{"usages":` + u + `,"usage_":` + u + `,"ausage":` + u + `}`, none},
		{"escaped quotes and backslashes", `{"a\\\"":"\\\\","b":"\\\"{","usage":` + u + `}`, found},
		{"brackets in usage's strings", `{"usage":{"x":"}\"}","prompt_tokens":4,"y":{"z":[{}]},"completion_tokens":2}}`, found},
		{"usage too long to read", `{"usage":{"x":"` + strings.Repeat("x", maxUsage) + `","prompt_tokens":1}}`, none},
		{"text after the object", `{"usage":` + u + `}{"usage":{"prompt_tokens":9}}`, found},
		{"cut off", `{"usage":` + u, answered{Usage{Input: 4, Output: 2}, true, false}},
		{"cut off in usage", `{"usage":` + u[:9], cut},
		{"array", `[{"usage":` + u + `}]`, cut},
		{"string", `"{"`, cut},
		{"html", `<a href="{}">`, cut},
		{"closing bracket", `}{}`, cut},
		{"empty", ``, cut},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			split([]byte(tt.body), func(pieces ...[]byte) {
				if got := readAnswer(pieces...); got != tt.want {
					t.Fatalf("%d pieces, the first of %d bytes (-want +got):\n%s", len(pieces), len(pieces[0]), cmp.Diff(tt.want, got))
				}
			})
		})
	}
}

func TestPlainAnswerAllocates(t *testing.T) {
	body := []byte(`{"choices":[{"message":{"content":"hello"}}],"usage":{"prompt_tokens":4}}`)
	a := PlainAnswer{captured: make([]byte, 0, 64)}
	if got := testing.AllocsPerRun(100, func() {
		a = PlainAnswer{captured: a.captured}
		a.Write(body[:60], false)
		a.Write(body[60:], true)
	}); got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
}
