package gateway

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-gateway/weir/ledger"
	"github.com/weir-gateway/weir/openai"
)

// exchange has a chat answered by a stream of pieces of text, and what follows them.
func exchange(t *testing.T, g *Gateway, content, text string, pieces int, end string) *Exchange {
	t.Helper()
	x, refused := g.Admit(t.Context(), call("k", `{"model":"big","stream":true,"messages":[{"role":"user","content":`+content+`}]}`))
	if refused != nil {
		t.Fatal(refused)
	}
	x.Answer(Head{Status: 200, ContentType: "text/event-stream"})
	for range pieces {
		x.Write(fmt.Appendf(nil, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":%q}}]}\n\n", text), false)
	}
	x.Write([]byte(end), end != "")
	x.End()
	return x
}

func whole(input, output int) string {
	return fmt.Sprintf("data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"+
		"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":%d,\"completion_tokens\":%d}}\n\ndata: [DONE]\n\n", input, output)
}

var words = `"` + strings.Repeat("consectetur adipiscing ", 60) + `"` // 120 of them

// What upstreams count of whole answers teaches, and of nothing else.
func TestEstimatesAreLearned(t *testing.T) {
	const piece = "consectetur adipiscing elit " // three words
	tests := []struct {
		name, content, end string
		learned            bool
	}{
		{"whole", words, whole(127, 150), true},
		{"with an image", `[{"type":"text","text":` + words + `},{"type":"image_url","image_url":{"url":"data:,"}}]`, whole(127, 150), false},
		{"left", words, "", false},
		{"without usage", words, "data: [DONE]\n\n", false},
		{"short", `"hello"`, whole(9, 150), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, _ := newGateway(t, oneKey())
			before := exchange(t, g, words, piece, 50, "")
			for range 10 {
				exchange(t, g, tt.content, piece, 50, tt.end)
			}
			after := exchange(t, g, words, piece, 50, "")
			if near := after.input > 115 && after.input < 140; near != tt.learned {
				t.Errorf("the prompt of 127 tokens is estimated at %d, was at %d", after.input, before.input)
			}
			got := after.meter.reading().estimate
			if near := got >= 150 && got < 165; near != tt.learned && tt.name == "whole" {
				t.Errorf("the answer of 150 tokens is estimated at %d, was at %d", got, before.meter.reading().estimate)
			}
		})
	}
}

func TestErrorsOfEstimatesAreCounted(t *testing.T) {
	g, _ := newGateway(t, oneKey())
	exchange(t, g, words, "consectetur ", 100, whole(127, 100))
	exchange(t, g, words, "consectetur ", 100, "")
	w := httptest.NewRecorder()
	g.metrics.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, kind := range []string{"prompt", "completion"} {
		if line := fmt.Sprintf("\nweir_estimate_error_ratio_count{kind=%q} 1\n", kind); !strings.Contains(w.Body.String(), line) {
			t.Errorf("no line %q", line)
		}
	}
}

func TestCount(t *testing.T) {
	x := &Exchange{input: 40, reserved: amounts{output: 500}}
	tests := []struct {
		name   string
		r      reading
		want   amounts
		source ledger.Source
	}{
		{"usage of the whole", reading{usage: openai.Usage{Input: 30, Output: 7}, known: true, whole: true, estimate: 9, pieces: 6}, amounts{30, 7}, ledger.Exact},
		{"running totals", reading{usage: openai.Usage{Input: 30, Output: 7}, known: true, estimate: 9, pieces: 7}, amounts{30, 7}, ledger.Estimated},
		{"totals that lag behind", reading{usage: openai.Usage{Input: 30, Output: 5}, known: true, estimate: 9, pieces: 7}, amounts{30, 9}, ledger.Estimated},
		{"zeros until the end", reading{known: true, estimate: 9, pieces: 7}, amounts{40, 9}, ledger.Estimated},
		{"no usage", reading{estimate: 9, pieces: 7}, amounts{40, 9}, ledger.Estimated},
		{"more than there can be", reading{estimate: 900, pieces: 7}, amounts{40, 500}, ledger.Estimated},
	}
	for _, tt := range tests {
		got, source := x.count(tt.r)
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(amounts{})); diff != "" || source != tt.source {
			t.Errorf("%s: %s (-want +got):\n%s", tt.name, source, diff)
		}
	}
}

// TestSpeedIsOfAChoice knows that choices are made side by side.
func TestSpeedIsOfAChoice(t *testing.T) {
	var s sizes
	k := kind{"u", "m", openai.Completions}
	if got := s.tokensIn(k, time.Second, 1); got != 0 {
		t.Errorf("%d tokens of nothing known", got)
	}
	s.observe(k, 400, 4, Passed{}, 2*time.Second)
	s.observe(k, 100, 1, Passed{}, 2*time.Second)
	for choices, want := range map[int64]int64{1: 50, 4: 200} {
		if got := s.tokensIn(k, time.Second, choices); got != want {
			t.Errorf("%d choices: %d tokens in a second, want %d", choices, got, want)
		}
	}
}
