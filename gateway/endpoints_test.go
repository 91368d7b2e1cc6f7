package gateway

import (
	"fmt"
	"testing"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/ratelimit"
)

// What each endpoint is expected to take: a word is about a token.
func TestReservationOfEndpoints(t *testing.T) {
	const five = "one two three four five"
	tests := []struct {
		name          string
		ep            openai.Endpoint
		body          string
		input, output int64 // the input without its margin
	}{
		{"embedding", openai.Embeddings, `{"input":"` + five + `","max_tokens":9}`, 5, 0},
		{"embeddings", openai.Embeddings, `{"input":["` + five + `","` + five + `"]}`, 10, 0},
		{"a query that is read with each of three texts", openai.Rerank, `{"query":"` + five + `","documents":["one","two","three"]}`, 5*3 + 2 + 3*4 + 3, 0},
		{"pairs", openai.Score, `{"text_1":["one","two"],"text_2":["three","four"]}`, 2 + 2*4 + 3, 0},
		{"response", openai.Responses, `{"input":"` + five + `","max_output_tokens":7}`, 5 + 4 + 3, 7},
		{"response without a limit", openai.Responses, `{"input":"` + five + `"}`, 5 + 4 + 3, 50},
		{"message", openai.Messages, `{"messages":[{"content":"` + five + `"}],"max_tokens":7}`, 5 + 4 + 3, 7},
		{"count", openai.CountTokens, `{"messages":[{"content":"` + five + `"}]}`, 0, 0},
	}
	for _, tt := range tests {
		r, err := openai.ParseRequest(tt.ep, []byte(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		g, _ := newGateway(t, oneKey())
		x := &Exchange{g: g, model: config.Model{Name: "m", MaxOutput: 50}}
		answers := x.estimate(&r, []byte(tt.body))
		got := reservation(&r, x.model, x.input, saturated(answers, r.N))
		if x.input != tt.input || got.output != tt.output || got.input != x.input+(x.input*15+99)/100 {
			t.Errorf("%s: input %d, reserved %+v, want %d and %d", tt.name, x.input, got, tt.input, tt.output)
		}
	}
}

// Whatever a query is multiplied with, the amount stays one.
func TestReservationIsBounded(t *testing.T) {
	if got := saturated(ratelimit.MaxAmount, ratelimit.MaxAmount); got != ratelimit.MaxAmount || saturatedSum(got, got) != ratelimit.MaxAmount {
		t.Errorf("%d", got)
	}
}

// One that has tokens counted meets the limits on requests alone.
func TestCountedBy(t *testing.T) {
	var all rules
	for _, u := range []ratelimit.Unit{ratelimit.Requests, ratelimit.Tokens, ratelimit.InputTokens, ratelimit.OutputTokens, ratelimit.Concurrency} {
		r := rule{limit: &ratelimit.Limit{Unit: u}}
		all.exchange, all.attempt = append(all.exchange, r), append(all.attempt, r)
	}
	if got := (&Call{Endpoint: openai.Messages}).countedBy(&all); got != &all {
		t.Error("a message meets other limits than those there are")
	}
	got := (&Call{Endpoint: openai.CountTokens}).countedBy(&all)
	units := fmt.Sprint(got.exchange[0].limit.Unit, got.exchange[1].limit.Unit, len(got.exchange), len(got.attempt))
	if want := fmt.Sprint(ratelimit.Requests, ratelimit.Concurrency, 2, 2); units != want {
		t.Errorf("%s, want %s", units, want)
	}
}
