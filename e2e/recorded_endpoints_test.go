package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-gateway/weir/openai"
)

// recordedEndpoint is a recorded answer of an endpoint beside chats and completions.
type recordedEndpoint struct {
	File, Endpoint string
	Status         int
	ContentType    string `json:"content_type"`
}

const endpointsWire = "../openai/testdata/endpoints"

func recordedEndpoints(t *testing.T) (list []recordedEndpoint) {
	t.Helper()
	index, err := os.ReadFile(filepath.Join(endpointsWire, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(index, &list); err != nil || len(list) < 40 {
		t.Fatalf("%d recorded answers: %v", len(list), err)
	}
	return list
}

// TestRecordedEndpoints sends every recorded answer of a real server through Envoy
// and weir: good ones pass byte for byte, and errors come in the client's dialect with
// the server's own words.
func TestRecordedEndpoints(t *testing.T) {
	t.Parallel()
	var current recordedEndpoint
	var body []byte
	r := start(t, fixture{upstream: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		if req.Method != http.MethodPost {
			http.NotFound(w, req) // weir asks for models too
			return
		}
		w.Header().Set("Content-Type", current.ContentType)
		w.WriteHeader(current.Status)
		_, _ = w.Write(body)
	})})
	members := map[string]string{
		"embeddings": `"input":"x"`, "rerank": `"query":"x","documents":["y"]`, "score": `"text_1":"x","text_2":"y"`,
		"responses": `"input":"x"`, "messages": said + `,"max_tokens":9`, "messages_count_tokens": said,
	}
	paths := map[string]string{}
	for _, ep := range openai.Endpoints() {
		paths[ep.String()] = ep.Path()
	}
	for i, rec := range recordedEndpoints(t) {
		var err error
		if body, err = os.ReadFile(filepath.Join(endpointsWire, rec.File)); err != nil {
			t.Fatal(err)
		}
		current = rec
		asked := members[rec.Endpoint]
		if strings.HasSuffix(rec.File, ".sse") {
			asked += `,"stream":true`
		}
		got := r.do(http.MethodPost, paths[rec.Endpoint], asking("m", asked))
		if got.status != rec.Status {
			t.Errorf("%s: status %d, want %d", rec.File, got.status, rec.Status)
		}
		if rec.Status == http.StatusOK {
			if got.body != string(body) {
				t.Errorf("%s: the client got\n%q\nwant\n%q", rec.File, got.body, body)
			}
		} else {
			sameError(t, rec, body, got)
		}
		r.settled(i + 1)
	}
}

// sameError compares an error with what the upstream said.
func sameError(t *testing.T, rec recordedEndpoint, sent []byte, got reply) {
	t.Helper()
	var before, after struct {
		Type  string
		Error struct{ Type, Message string }
	}
	if err := json.Unmarshal(sent, &before); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(got.body), &after); err != nil {
		t.Errorf("%s: %v: %s", rec.File, err, got.body)
	}
	anthropic := strings.HasPrefix(rec.Endpoint, "messages")
	if after.Error.Message != before.Error.Message || anthropic != (after.Type == "error") || got.header.Get("X-Weir-Error-Source") != "upstream" {
		t.Errorf("%s: %s", rec.File, got.body)
	}
}
