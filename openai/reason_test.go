package openai

import (
	"slices"
	"testing"
)

// TestReasons reads why answers ended: the known reasons, each once, and no other text.
func TestReasons(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		endpoint     Endpoint
		want         []string
	}{
		{"one", `{"choices":[{"index":0,"message":{"content":"x","finish_reason":"no"},"finish_reason":"stop"}],"usage":{}}`, ChatCompletions, []string{"stop"}},
		{"several", `{"choices":[{"finish_reason":"length"},{"finish_reason":"tool_calls"},{"finish_reason":"length"}]}`, ChatCompletions, []string{"length", "tool_calls"}},
		{"the longest", `{"choices":[{"finish_reason":"content_filter"}]}`, Completions, []string{"content_filter"}},
		{"longer ones", `{"choices":[{"finish_reason":"content_filter_secret"},{"finish_reason":"content_filterx"}]}`, Completions, []string{"other"}},
		{"an invention", `{"choices":[{"finish_reason":"what the user said"}]}`, ChatCompletions, []string{"other"}},
		{"none", `{"choices":[{"finish_reason":null}],"finish_reason":"stop"}`, ChatCompletions, nil},
		{"elsewhere", `{"a":[{"finish_reason":"stop"}],"stop_reason":"end_turn"}`, ChatCompletions, nil},
		{"a message", `{"content":[{"stop_reason":"no"}],"stop_reason":"end_turn","usage":{}}`, Messages, []string{"end_turn"}},
	} {
		for cut := range len(tt.answer) { // wherever it is cut in two
			a := PlainAnswer{Endpoint: tt.endpoint}
			a.Write([]byte(tt.answer[:cut]), false)
			a.Write([]byte(tt.answer[cut:]), true)
			if got := a.Reasons(); !slices.Equal(got, tt.want) {
				t.Fatalf("%s, cut at %d: %q, want %q", tt.name, cut, got, tt.want)
			}
		}
		s := EventStream{Endpoint: tt.endpoint}
		s.Write([]byte("data: "+tt.answer+"\n\n"), true)
		if got := s.Reasons(); tt.endpoint != Messages && !slices.Equal(got, tt.want) {
			t.Errorf("%s, streamed: %q, want %q", tt.name, got, tt.want)
		}
	}
	m := EventStream{Endpoint: Messages}
	m.Write([]byte("data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"max_tokens\"}}\n\n"), true)
	if got := m.Reasons(); !slices.Equal(got, []string{"max_tokens"}) || !m.Finished() {
		t.Errorf("a message, streamed: %q", got)
	}
	if FinishReason("stop") != "stop" || FinishReason("a word") != OtherReason || FinishReason("") != OtherReason {
		t.Error("reasons that Envoy's script noted are not closed")
	}
}
