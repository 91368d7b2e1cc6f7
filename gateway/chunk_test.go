package gateway

import (
	"testing"

	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/tokens"
)

// BenchmarkChunk is the gateway's part of one chunk of a stream.
func BenchmarkChunk(b *testing.B) {
	chunk := []byte(`data: {"id":"chatcmpl-8ee47b87-88f8-47d0-8397-c80379be879e","object":"chat.completion.chunk","created":1795529039,"model":"demo","choices":[{"index":0,"delta":{"content":" Hello"},"logprobs":null,"finish_reason":null,"token_ids":null}]}` + "\n\n")
	x := &Exchange{meter: newStreamMeter(openai.ChatCompletions, true, func(int64, *tokens.Features) int64 { return 0 }), ttft: 1}
	b.ReportAllocs()
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		x.Write(chunk, false)
	}
}
