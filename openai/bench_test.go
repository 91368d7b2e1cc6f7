package openai

import (
	"bytes"
	"strings"
	"testing"
)

// benchBodies are requests of the usual size, and with long contents of the
// kinds that scanners are slow at.
func benchBodies() map[string][]byte {
	content := func(s string) []byte {
		return []byte(`{"model":"tiny","stream":true,"max_tokens":256,"messages":[{"role":"user","content":"` + s + `"}]}`)
	}
	return map[string][]byte{
		"short": content("the quick gateway answers a request"),
		"ascii": content(strings.Repeat("the quick gateway answers a request ", 3000)),
		"code":  content(strings.Repeat(`\tif err := f(\"x\"); err != nil {\n\t\treturn err\n\t}\n`, 2000)),
		"cjk":   content(strings.Repeat("网关回答一个请求，", 4000)),
		"ids":   []byte(`{"model":"tiny","messages":[],"prompt":[` + strings.Repeat("12345,", 20000) + `1]}`),
	}
}

func BenchmarkParseRequest(b *testing.B) {
	for name, body := range benchBodies() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if _, err := ParseRequest(ChatCompletions, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPromptText(b *testing.B) {
	for name, body := range benchBodies() {
		b.Run(name, func(b *testing.B) {
			r, err := ParseRequest(ChatCompletions, body)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				r.PromptText(body, func([]byte) {})
			}
		})
	}
}

func BenchmarkApply(b *testing.B) {
	for name, body := range benchBodies() {
		b.Run(name, func(b *testing.B) {
			r, err := ParseRequest(ChatCompletions, body)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				r.Apply(body, Edit{Model: "other", IncludeUsage: true})
			}
		})
	}
}

// One operation is one event, as vLLM sends them.
func BenchmarkEventStream(b *testing.B) {
	event := []byte(`data: {"id":"chatcmpl-b160f1ebc822d508","object":"chat.completion.chunk","created":1795332648,"model":"tiny","choices":[{"index":0,"delta":{"content":" retry"},"logprobs":null,"finish_reason":null,"token_ids":null}]}` + "\n\n")
	continuous := bytes.Replace(event, []byte("}\n\n"), []byte(`,"usage":{"prompt_tokens":23,"total_tokens":24,"completion_tokens":1,"completion_tokens_details":null}}`+"\n\n"), 1)
	run := func(name string, s EventStream, event []byte, cut int) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(event)))
			for b.Loop() {
				if cut > 0 {
					s.Write(event[:cut], false)
				}
				s.Write(event[cut:], false)
			}
		})
	}
	text := func([]byte) {}
	run("observe", EventStream{}, event, 0)
	run("text", EventStream{Text: text}, event, 0)
	run("strip", EventStream{Strip: true, Text: text}, event, 0)
	run("strip-cut", EventStream{Strip: true, Text: text}, event, 100)
	run("usage", EventStream{Strip: true, Text: text}, continuous, 0)
	run("removed", EventStream{Strip: true, Text: text}, []byte(usage), 0)
}

func BenchmarkPlainAnswer(b *testing.B) {
	answer := func(s string) []byte {
		return []byte(`{"id":"x","choices":[` + s + `],"usage":{"prompt_tokens":23,"total_tokens":35,"completion_tokens":12}}`)
	}
	for name, body := range map[string][]byte{
		"short":     answer(`{"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}`),
		"text":      answer(`{"message":{"content":"` + strings.Repeat(`the quick gateway\n`, 5000) + `"}}`),
		"embedding": answer(strings.Repeat("-0.012345678,", 8000) + "1"),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				var a PlainAnswer
				a.Write(body, true)
				if !a.Complete() {
					b.Fatal("not complete")
				}
			}
		})
	}
}

func BenchmarkNormalizeError(b *testing.B) {
	body := []byte(`{"error":{"message":"The model does not exist.","type":"NotFoundError","param":"model","code":404}}`)
	b.ReportAllocs()
	for b.Loop() {
		_ = NormalizeError(404, ChatCompletions, body)
	}
}
