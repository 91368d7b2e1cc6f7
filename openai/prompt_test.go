package openai

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPromptText(t *testing.T) {
	tests := []struct {
		name, body              string
		ep                      Endpoint
		inputs, parts, tokenIDs int
		want                    []string
	}{
		{
			name: "messages of every kind", ep: ChatCompletions, inputs: 5, parts: 2,
			body: `{"model":"m","messages":[
				{"role":"system","content":"be\n\"kind\"","name":"boss"},
				{"role":"user","content":[{"type":"text","text":"look"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},{"type":"input_audio","input_audio":{"data":"AAAA"}},"bare"]},
				{"role":"assistant","content":null,"reasoning_content":"hm","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},
				{"role":"assistant","content":"","function_call":{"name":"g","arguments":"{}"},"refusal":"no"},
				{"role":"tool","tool_call_id":"1","c\u006fntent":"22"}]}`,
			want: []string{`be\n\"kind\"`, "boss", "look", "bare", "hm", "f", `{\"a\":1}`, "g", "{}", "no", "22"},
		},
		{
			name: "schemas", ep: ChatCompletions,
			body: `{"tools": [ {"x":"]"} ] ,"functions":{}, "messages":[], "response_format":{"type":"text"}}`,
			want: []string{`[ {"x":"]"} ]`, `{}`, `{"type":"text"}`},
		},
		{
			name: "messages of other types", ep: ChatCompletions, inputs: 4, parts: 2,
			body: `{"messages":[1,"x",[],{"content":[5,{}],"tool_calls":[3,{"function":4}],"name":7}]}`,
		},
		{name: "a prompt", ep: Completions, inputs: 1, body: `{"prompt":"once upon"}`, want: []string{"once upon"}},
		{name: "prompts", ep: Completions, body: `{"prompt":["a",[1, 22,3],"b",null,{}]}`, inputs: 3, tokenIDs: 3, want: []string{"a", "b"}},
		{name: "token ids", ep: Completions, body: `{"prompt":[1,2,3,-4]}`, inputs: 1, tokenIDs: 3},
		{name: "the prompt of another endpoint", ep: Completions, inputs: 1, body: `{"prompt":"a","messages":[{"content":"x"}]}`, want: []string{"a"}},
		{name: "an unknown endpoint", ep: Unknown, body: `{"prompt":"a","messages":[]}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := ParseRequest(tt.ep, []byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			inputs, parts, tokenIDs := r.PromptText([]byte(tt.body), func(raw []byte) { got = append(got, string(raw)) })
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
			want := [3]int{tt.inputs, tt.parts, tt.tokenIDs}
			if diff := cmp.Diff(want, [3]int{inputs, parts, tokenIDs}); diff != "" {
				t.Errorf("inputs, parts, token ids (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPromptTextAllocates(t *testing.T) {
	body := []byte(chat(`"tools":[{"name":"f"}]`))
	r, err := ParseRequest(ChatCompletions, body)
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	if got := testing.AllocsPerRun(100, func() {
		r.PromptText(body, func(raw []byte) { size += len(raw) })
	}); got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
}
