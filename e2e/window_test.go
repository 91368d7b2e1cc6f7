package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/weir-gateway/weir/ledger"
	"github.com/weir-gateway/weir/openai"
)

// TestContextWindow has requests that do not fit into a model's window refused before
// they cost anything, and limits that do not fit lowered where that is wanted.
func TestContextWindow(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{models: `  - {name: narrow, upstreams: [sim], served_as: {sim: m}, context: 60}
  - {name: clamped, upstreams: [sim], served_as: {sim: m}, context: 60, max_tokens: clamp}
`})
	narrow := func(body string) string { return strings.Replace(body, `"model":"m"`, `"model":"narrow"`, 1) }
	got := r.post(narrow(chat(`"max_tokens":61`)))
	if e := got.errorObject(); got.status != http.StatusBadRequest || got.code() != openai.CodeContextLength || !strings.Contains(e.Message, "maximum context length is 60 tokens") {
		t.Errorf("an answer larger than the window: status %d: %s", got.status, got.body)
	}
	long := `{"model":"narrow","messages":[{"role":"user","content":"` + strings.Repeat("word ", 400) + `"}]}`
	got = r.post(long)
	if e := got.errorObject(); got.code() != openai.CodeContextLength || !strings.Contains(e.Message, "with a larger window: m.") || *e.Param != "messages" {
		t.Errorf("a prompt larger than the window: status %d: %s", got.status, got.body)
	}
	if n := r.sim.Ledger().Len(); n != 0 {
		t.Errorf("%d refused requests reached the upstream", n)
	}
	got = r.post(strings.Replace(chat(`"max_tokens":5000`), `"model":"m"`, `"model":"clamped"`, 1))
	if got.status != http.StatusOK {
		t.Fatalf("clamped: status %d: %s", got.status, got.body)
	}
	if e := r.sim.Ledger().Entries()[0]; e.MaxTokens < 20 || e.MaxTokens > 55 {
		t.Errorf("max_tokens was lowered to %d, want what the prompt leaves of 60", e.MaxTokens)
	}
	records := r.settled(3)
	for i, want := range []ledger.Outcome{ledger.Refused, ledger.Refused, ledger.OK} {
		if records[i].Outcome != want {
			t.Errorf("line %d of the ledger: %s, want %s", i+1, records[i].Outcome, want)
		}
	}
}

// TestEnginesOwnParameters has what engines take beyond OpenAI's API bounded, and the
// cache kept apart.
func TestEnginesOwnParameters(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{
		salt:  "user",
		extra: "requests: {max_choices: 4, allow: [priority]}\n",
	})
	for param, member := range map[string]string{"n": `"n":5`, "best_of": `"best_of":5`, "cache_salt": `"cache_salt":"guess"`, "kv_transfer_params": `"kv_transfer_params":{"x":1}`} {
		got := r.post(chat(member))
		if e := got.errorObject(); got.status != http.StatusBadRequest || e.Param == nil || *e.Param != param {
			t.Errorf("%s: status %d: %s", member, got.status, got.body)
		}
	}
	if n := r.sim.Ledger().Len(); n != 0 {
		t.Errorf("%d refused requests reached the upstream", n)
	}
	if got := r.post(chat(`"priority":3`), "X-Data-Parallel-Rank", "1", "X-Session-Id", "x"); got.status != http.StatusOK {
		t.Errorf("status %d: %s", got.status, got.body)
	}
	r.post(chat(), "Authorization", "Bearer "+otherKey)
	r.post(chat())
	salts := map[string]int{}
	for _, e := range r.sim.Ledger().Entries() {
		_, rest, found := strings.Cut(string(e.Body), `"cache_salt":"`)
		if !found || e.Header.Get("X-Data-Parallel-Rank") != "" || e.Header.Get("X-Session-Id") != "" {
			t.Errorf("the upstream got %s with %v", e.Body, e.Header)
			continue
		}
		salt, _, _ := strings.Cut(rest, `"`)
		salts[salt]++
	}
	if len(salts) != 2 {
		t.Errorf("salts %v, want one for each of two users", salts)
	}
}
