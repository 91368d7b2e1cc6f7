package simulator

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestPromptTokens(t *testing.T) {
	tests := map[string]struct {
		body string
		want int64
	}{
		"one message":     {`{` + hello + `}`, 9},
		"two messages":    {`{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}]}`, 4 + 3 + 4 + 1},
		"parts":           {`{"messages":[{"role":"user","content":[{"type":"text","text":"Hi"},{"type":"image_url"},{"type":"text","text":"you"}]}]}`, 6},
		"no content":      {`{"messages":[{"role":"assistant","content":null,"tool_calls":[]}]}`, 4},
		"text":            {`{"prompt":"once upon a time"}`, 4},
		"texts":           {`{"prompt":["once upon","a time, maybe"]}`, 6},
		"token IDs":       {`{"prompt":[5,6,7]}`, 3},
		"lists of IDs":    {`{"prompt":[[5,6,7],[8]]}`, 4},
		"other case":      {`{"messages":[{"role":"user","content":"Hi"}],"MESSAGES":[],"Prompt":"x"}`, 5},
		"the last counts": {`{"prompt":"a b c","prompt":"a"}`, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := PromptTokens([]byte(test.body))
			if err != nil || got != test.want {
				t.Errorf("got %d, %v, want %d", got, err, test.want)
			}
		})
	}
}

func TestPromptTokensRefuses(t *testing.T) {
	for _, body := range []string{``, `{`, `[]`, `null`, `{}`, `{"messages":[]}`, `{"messages":"hi"}`, `{"prompt":""}`, `{"prompt":7}`} {
		if n, err := PromptTokens([]byte(body)); err == nil {
			t.Errorf("%s has %d tokens, want an error", body, n)
		}
	}
}

// What vLLM refuses is refused in its words and shapes.
func TestRefusals(t *testing.T) {
	b := startWith(t, Options{Models: []Model{{Name: "m", Context: 20}, {Name: "other"}}})
	tests := map[string]struct {
		path, body string
		status     int
		want       string
	}{
		"unknown path":       {"/v1/images", `{}`, 404, `{"detail":"Not Found"}`},
		"unknown model":      {chatPath, `{"model":"x",` + hello + `}`, 404, "{\"error\":{\"message\":\"The model `x` does not exist. Valid aliases: m, other.\",\"type\":\"NotFoundError\",\"param\":\"model\",\"code\":404}}"},
		"wrong method":       {"/v1/models", `{}`, 405, `{"detail":"Method Not Allowed"}`},
		"bad JSON":           {chatPath, `{"model":`, 400, `"type":"Bad Request","param":"body.9","code":400}}`},
		"no object":          {chatPath, `[]`, 400, `Input should be a valid dictionary`},
		"no messages":        {chatPath, `{"model":"m"}`, 400, `"param":"body.messages"`},
		"empty messages":     {chatPath, `{"messages":[]}`, 400, `Cannot apply chat template to an empty conversation.`},
		"no prompt":          {completionPath, `{"model":"m"}`, 400, `"param":"prompt"`},
		"model no string":    {chatPath, `{"model":5,` + hello + `}`, 400, `"param":"body.model"`},
		"stream no boolean":  {chatPath, `{"stream":"true",` + hello + `}`, 400, `"param":"body.stream"`},
		"options, no stream": {chatPath, `{"stream_options":{"include_usage":true},` + hello + `}`, 400, "{\"error\":{\"message\":\"Stream options can only be defined when `stream=True`. (parameter=stream_options)\",\"type\":\"BadRequestError\",\"param\":\"stream_options\",\"code\":400}}"},
		"max_tokens 0":       {chatPath, `{"max_tokens":0,` + hello + `}`, 400, `{"error":{"message":"max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)","type":"BadRequestError","param":"max_tokens","code":400}}`},
		"max above context":  {chatPath, `{"max_tokens":21,` + hello + `}`, 400, `max_tokens=21 cannot be greater than max_model_len=20.`},
		"prompt too long":    {completionPath, `{"prompt":"` + strings.Repeat("a ", 30) + `"}`, 400, `This model's maximum context length is 20 tokens. However, your prompt contains at least 21 input tokens`},
		"prompt fills all":   {completionPath, `{"prompt":"` + strings.Repeat("a ", 20) + `"}`, 400, `max_tokens must be at least 1, got 0.`},
		"n 0":                {chatPath, `{"n":0,` + hello + `}`, 400, `n must be at least 1`},
		"n too big":          {chatPath, `{"n":16385,` + hello + `}`, 400, `n must be at least 1 and at most 16384, got 16385.`},
		"choices too many":   {completionPath, `{"n":16384,"prompt":["a","b"]}`, 400, `n must be at most 16384, got 32768.`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := b.post(t, test.path, test.body)
			if got.status != test.status || !strings.Contains(got.body, test.want) {
				t.Errorf("got %d %s, want %d %s", got.status, got.body, test.status, test.want)
			}
			if media := got.header.Get("Content-Type"); media != "application/json" {
				t.Errorf("content-type %q", media)
			}
		})
	}
	b.settle(t)
	if got := b.Ledger().Totals(); got != (Totals{Requests: int64(len(tests)), Refused: int64(len(tests))}) {
		t.Errorf("totals %+v", got)
	}
}

func TestRefusesWhatIsNotJSON(t *testing.T) {
	b := start(t, "")
	got := b.post(t, chatPath, `{`+hello+`}`, "Content-Type", "text/plain")
	if got.status != http.StatusBadRequest || !strings.Contains(got.body, "Unsupported Media Type") {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

func TestRefusesBadHeaderScript(t *testing.T) {
	b := start(t, "")
	got := b.post(t, chatPath, `{`+hello+`}`, "X-Simulate", "tokens=many")
	if got.status != http.StatusBadRequest || !strings.Contains(got.body, `header x-simulate: script: tokens=\"many\" is not an integer`) {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

func TestKey(t *testing.T) {
	b := startWith(t, Options{Key: "sk-upstream-1234", Models: []Model{{Name: "m"}}})
	tests := map[string]struct {
		authorization string
		status        int
		auth          string
	}{
		"right":   {"Bearer sk-upstream-1234", 200, "1234"},
		"lower":   {"bearer sk-upstream-1234", 200, "1234"},
		"wrong":   {"Bearer sk-client-9876", 401, "9876"},
		"missing": {"", 401, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b.Ledger().Reset()
			got := b.post(t, chatPath, `{`+hello+`}`, "Authorization", test.authorization)
			if got.status != test.status {
				t.Errorf("status %d, want %d", got.status, test.status)
			}
			if got.status == 401 && got.body != `{"error":"Unauthorized"}` {
				t.Errorf("body %s", got.body)
			}
			e := b.only(t)
			if e.Auth != test.auth || strings.Contains(strings.Join(e.Header["Authorization"], ""), "sk-") {
				t.Errorf("ledger has auth %q and header %q", e.Auth, e.Header["Authorization"])
			}
		})
	}
}

func TestOpenEndpoints(t *testing.T) {
	b := startWith(t, Options{Key: "secret", Models: []Model{{Name: "m", Context: 2048}, {Name: "q\"x"}}})
	for path, want := range map[string]string{"/health": "", "/_ledger/totals": `{"requests":0,`} {
		resp, err := b.client.Get(b.url + path)
		if err != nil {
			t.Fatal(err)
		}
		got := readAll(t, resp)
		if resp.StatusCode != http.StatusOK || !strings.HasPrefix(got, want) {
			t.Errorf("%s answers %d %s", path, resp.StatusCode, got)
		}
	}
	if n := b.Ledger().Len(); n != 0 {
		t.Errorf("ledger has %d entries, want none", n)
	}
}

func TestModels(t *testing.T) {
	b := startWith(t, Options{Models: []Model{{Name: "m", Context: 2048}, {Name: "q\"x"}}})
	resp, err := b.client.Get(b.url + "/v1/models")
	if err != nil {
		t.Fatal(err)
	}
	got := readAll(t, resp)
	for _, want := range []string{`{"object":"list","data":[{"id":"m","object":"model"`, `"max_model_len":2048}`, `{"id":"q\"x"`, `"max_model_len":null}]}`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s lacks %s", got, want)
		}
	}
}

func readAll(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}
