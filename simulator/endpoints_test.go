package simulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// endpointRecording is an answer of vLLM's other endpoints.
func endpointRecording(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../openai/testdata/endpoints/vllm-0.32.0", file))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// typedShapes are the kinds and shapes of the events of a stream, in the order in
// which they first come.
func typedShapes(t *testing.T, body string) (all []string) {
	t.Helper()
	for event := range strings.SplitSeq(strings.TrimSuffix(body, "\n\n"), "\n\n") {
		kind, data, ok := strings.Cut(event, "\ndata: ")
		if !ok {
			t.Fatalf("event %q", event)
		}
		if s := kind + " " + skeleton(t, data); !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

const asked = `"messages":[{"role":"user","content":"Hello there, model!"}],"max_tokens":5`

// Answers have the shapes that vLLM's have, member by member.
func TestEndpointShapes(t *testing.T) {
	tests := map[string]struct {
		path, body string
		prompt     int64
	}{
		"embeddings-one.json":               {pathEmbeddings, `{"input":"a b c","dimensions":64}`, 3},
		"embeddings-list.json":              {pathEmbeddings, `{"input":["a b","c","d"],"dimensions":64}`, 4},
		"embeddings-base64.json":            {pathEmbeddings, `{"input":[[1,2],[3]],"encoding_format":"base64"}`, 3},
		"embeddings-messages.json":          {pathEmbeddings, `{"messages":[{"role":"user","content":"a"}],"dimensions":64}`, 5},
		"score-one.json":                    {pathScore, `{"text_1":"a b","text_2":"c"}`, 3},
		"score-list.json":                   {pathScore, `{"queries":"a b","documents":["c","d"]}`, 6},
		"rerank.json":                       {pathRerank, `{"query":"a b","documents":["c","d e",{"text":"f"}]}`, 10},
		"messages-nonstream.json":           {pathMessages, `{` + asked + `}`, 9},
		"messages-stream.sse":               {pathMessages, `{"stream":true,` + asked + `}`, 9},
		"messages-count.json":               {pathCountTokens, `{` + asked + `,"system":"be kind"}`, 0},
		"responses-nonstream.json":          {pathResponses, `{"input":"Hello there, model!","max_output_tokens":5}`, 9},
		"responses-stream.sse":              {pathResponses, `{"input":"Hello there, model!","max_output_tokens":5,"stream":true}`, 9},
		"responses-instructions-stream.sse": {pathResponses, `{"input":[{"role":"user","content":[{"type":"input_text","text":"hi"}]}],"instructions":"be kind","max_output_tokens":5,"stream":true}`, 11},
		"err-embeddings-empty.json":         {pathEmbeddings, `{"input":[]}`, 0},
	}
	for file, test := range tests {
		t.Run(file, func(t *testing.T) {
			b := start(t, "tokens=20")
			got, want := b.post(t, test.path, test.body), endpointRecording(t, file)
			if strings.HasSuffix(file, ".sse") {
				if diff := cmp.Diff(typedShapes(t, want), typedShapes(t, got.body)); diff != "" {
					t.Errorf("(-vLLM +simulator):\n%s", diff)
				}
			} else if diff := cmp.Diff(skeleton(t, want), skeleton(t, got.body)); diff != "" {
				t.Errorf("(-vLLM +simulator):\n%s", diff)
			}
			b.settle(t)
			e := b.only(t)
			if e.Prompt != test.prompt {
				t.Errorf("%d prompt tokens, want %d", e.Prompt, test.prompt)
			}
			text := test.path == pathMessages || test.path == pathResponses
			if text && (e.Completion != 5 || !e.UsageSent || !strings.Contains(got.body, `"output_tokens":5`)) {
				t.Errorf("entry %+v", e)
			}
		})
	}
}

// Failures of streams come in the shape of their endpoint.
func TestEndpointFailures(t *testing.T) {
	for _, tt := range []struct{ path, script, want string }{
		{pathMessages, "fail=error:2", "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"internal_error\",\"message\":\"" + engineDied + "\"}}\n\n"},
		{pathResponses, "fail=error:2", "\"type\":\"response.failed\"}\n\n"},
		{pathMessages, "done=no", "\"output_tokens\":5}}\n\n"},
		{pathResponses, "done=no", "\"type\":\"response.output_item.done\"}\n\n"},
	} {
		b := start(t, "tokens=5,"+tt.script)
		body := `{"stream":true,"input":"hi",` + asked + `}`
		if got := b.post(t, tt.path, body).body; !strings.HasSuffix(got, tt.want) || strings.Contains(got, "[DONE]") {
			t.Errorf("%s, %s: ends in %q, want %q", tt.path, tt.script, got[max(0, len(got)-200):], tt.want)
		}
	}
	for _, tt := range []struct {
		path, body, script string
		status             int
	}{
		{pathEmbeddings, `{"input":"a"}`, "fail=status:503", 503},
		{pathRerank, `{"query":"a","documents":["b"]}`, "fail=error", 500},
		{pathMessages, `{"messages":[]}`, "", 400},
		{pathResponses, `{}`, "", 400},
		{pathRerank, `{"query":"a"}`, "", 400},
		{pathScore, `{"text_1":["a","b"],"text_2":["a","b","c"]}`, "", 400},
		{pathTranscriptions, `{}`, "", 400},
	} {
		if got := start(t, tt.script).post(t, tt.path, tt.body); got.status != tt.status {
			t.Errorf("%s %s: status %d, want %d", tt.path, tt.body, got.status, tt.status)
		}
	}
}

// audioForm is a form with a file of that length, and its content type.
func audioForm(t *testing.T, size int, fields ...string) (body, contentType string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i+1 < len(fields); i += 2 {
		if err := w.WriteField(fields[i], fields[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	f, err := w.CreateFormFile("file", "a.wav")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.Write(make([]byte, size))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String(), w.FormDataContentType()
}

func TestAudio(t *testing.T) {
	for _, tt := range []struct {
		fields             []string
		seconds            float64
		mime, want         string
		prompt, completion int64
	}{
		{[]string{"model", "m"}, 3, "application/json", `{"text":"lorem ipsum","usage":{"type":"duration","seconds":3}}`, 0, 0},
		{[]string{"response_format", "text"}, 3, "text/plain; charset=utf-8", `lorem ipsum`, 0, 0},
		{[]string{"response_format", "verbose_json"}, 3, "application/json", `{"duration":"3","language":"en","text":"lorem ipsum","segments":[],"words":null}`, 0, 0},
		{[]string{"stream", "true", "stream_include_usage", "true"}, 3, "text/event-stream; charset=utf-8", `"usage":{"prompt_tokens":150,"total_tokens":152,"completion_tokens":2}`, 150, 2},
	} {
		b := start(t, "tokens=2")
		body, contentType := audioForm(t, 2*bytesPerSecond+1, tt.fields...)
		got := b.post(t, pathTranscriptions, body, "Content-Type", contentType)
		if got.header.Get("Content-Type") != tt.mime || !strings.Contains(got.body, tt.want) {
			t.Errorf("%v: %s %s", tt.fields, got.header.Get("Content-Type"), got.body)
		}
		b.settle(t)
		if e := b.only(t); e.Seconds != tt.seconds || e.Prompt != tt.prompt || e.Completion != tt.completion {
			t.Errorf("%v: entry %+v", tt.fields, e)
		}
	}
}

// Embeddings are as long as was asked for, and the same in both encodings.
func TestEmbeddings(t *testing.T) {
	b := start(t, "")
	var v struct {
		Data []struct{ Embedding []float64 }
	}
	if err := json.Unmarshal([]byte(b.post(t, pathEmbeddings, `{"input":["a","b"],"dimensions":1000}`).body), &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Data) != 2 || len(v.Data[1].Embedding) != 1000 || fmt.Sprint(v.Data[0]) == fmt.Sprint(v.Data[1]) {
		t.Errorf("%d embeddings", len(v.Data))
	}
}
