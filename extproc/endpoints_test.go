package extproc_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-gateway/weir/extproc/extproctest"
	"github.com/weir-gateway/weir/ledger"
	"github.com/weir-gateway/weir/openai"
)

// endpointAnswers are the recorded good answers of the endpoints beside chats and
// completions, by file.
func endpointAnswers(t *testing.T) map[string]recordedAnswer {
	t.Helper()
	const dir = "../openai/testdata/endpoints"
	index, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		File, Endpoint string
		Status         int
		ContentType    string `json:"content_type"`
	}
	if err := json.Unmarshal(index, &list); err != nil {
		t.Fatal(err)
	}
	answers := map[string]recordedAnswer{}
	for _, r := range list {
		if r.Status != 200 {
			continue
		}
		body, err := os.ReadFile(filepath.Join(dir, r.File))
		if err != nil {
			t.Fatal(err)
		}
		answers[r.File] = recordedAnswer{r.Endpoint, r.ContentType, string(body)}
	}
	if len(answers) < 25 {
		t.Fatalf("%d recorded answers, want 25 and more", len(answers))
	}
	return answers
}

type recordedAnswer struct{ endpoint, contentType, body string }

// bodies are requests to endpoints, by name.
var bodies = map[string]string{
	"embeddings": `"input":"x"`, "rerank": `"query":"x","documents":["y"]`, "score": `"text_1":"x","text_2":"y"`,
	"responses": `"input":"x"`, "messages": `"max_tokens":9,"messages":[]`, "messages_count_tokens": `"messages":[]`,
}

// TestEndpointsPassByteForByte splits every recorded answer at every byte, and into
// single bytes. All are counted exactly, but for what has no usage.
func TestEndpointsPassByteForByte(t *testing.T) {
	for file, a := range endpointAnswers(t) {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			path := ""
			for _, ep := range openai.Endpoints() {
				if ep.String() == a.endpoint {
					path = ep.Path()
				}
			}
			body := `{"model":"m",` + bodies[a.endpoint] + `}`
			if strings.HasSuffix(file, ".sse") {
				body = strings.Replace(body, "{", `{"stream":true,`, 1)
			}
			pass := func(chunks ...string) {
				x := request(path, body)
				x.Answer = answer(200, a.contentType, chunks...)
				x.Answer.End = extproctest.Together
				if got := string(r.run(x).Client.Body); got != a.body {
					t.Fatalf("the first chunk of %d bytes: the client got\n%q\nwant\n%q", len(chunks[0]), got, a.body)
				}
			}
			for i := 1; i < len(a.body); i += splitStep * (1 + len(a.body)/1500) {
				pass(a.body[:i], a.body[i:])
			}
			pass(strings.Split(a.body, "")...)
			source := ledger.Exact
			switch {
			case a.endpoint == "messages_count_tokens":
				source = ledger.Missing
			case strings.HasSuffix(file, ".bin"):
				source = ledger.Estimated
			}
			for _, rec := range r.records() {
				if rec.Outcome != ledger.OK || rec.Source != source || rec.Endpoint != a.endpoint || source == ledger.Exact && rec.Tokens.Input == 0 {
					t.Fatalf("ledger %+v", rec)
				}
			}
		})
	}
}
