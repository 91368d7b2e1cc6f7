package e2e

import (
	"path/filepath"
	"testing"
)

// sdkFacts is what the check program for the other endpoints reports of one case.
type sdkFacts struct {
	Input, Output int64
	Seconds       float64
	FinishReason  string `json:"finish_reason"`
	Class         string
	Message       string
	Status        int
	RequestID     string `json:"request_id"`
}

// TestSDKsOfOtherEndpoints runs OpenAI's and Anthropic's own SDKs against weir.
func TestSDKsOfOtherEndpoints(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{
		model: "tokens=6", limits: "  - {name: key-rpm, per: [key], requests: 1000/m}\n",
		keys: "  - {id: limited, secret: " + limitedKey + ", limits: [{name: key-rpm, per: [key], requests: 1/m}]}\n",
	})
	if got := r.post(chat(), "Authorization", limitedKey); got.status != 200 {
		t.Fatalf("the limited key's only request: status %d", got.status)
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	got := checkProgram[sdkFacts](t, r, filepath.Join(root, ".tools/py/bin/python"), filepath.Join(root, "e2e/sdk/python/endpoints.py"))
	// "Tell me about rivers." has five tokens, and four more as a message.
	for name, want := range map[string]sdkFacts{
		"embeddings":           {Input: 3},
		"responses":            {Input: 9, Output: 6, FinishReason: "completed"},
		"responses_stream":     {Input: 9, Output: 3, FinishReason: "incomplete"},
		"responses_error":      {Class: "APIError", Message: "The upstream server ended the answer before it was complete."},
		"transcription":        {Seconds: 2},
		"transcription_stream": {},
		"messages":             {Input: 16, Output: 6, FinishReason: "end_turn"},
		"messages_stream":      {Input: 9, Output: 4, FinishReason: "max_tokens"},
		"count_tokens":         {Input: 9},
		"messages_bad_key":     {Class: "AuthenticationError", Status: 401},
		"messages_rate_limit":  {Class: "RateLimitError", Status: 429},
		"messages_not_found":   {Class: "NotFoundError", Status: 404},
		"messages_error":       {Class: "APIStatusError", Status: 200},
	} {
		f, ok := got[name]
		if !ok {
			t.Errorf("%s was not checked", name)
		}
		if f.RequestID == "" && (name == "messages" || f.Status > 0) {
			t.Errorf("%s: the SDK knows no request id: %+v", name, f)
		}
		f.RequestID = ""
		if want.Message == "" {
			f.Message = ""
		}
		if f != want {
			t.Errorf("%s: %+v, want %+v", name, got[name], want)
		}
	}
}
