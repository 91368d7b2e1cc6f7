package simulator

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	chatPath       = "/v1/chat/completions"
	completionPath = "/v1/completions"
	hello          = `"messages":[{"role":"user","content":"Hello there, model!"}]` // 5 + 4 tokens
)

// bench is a simulator behind a real server.
type bench struct {
	*Simulator
	url    string
	client *http.Client
}

// start serves a simulator with one model, m, that has this script.
func start(t *testing.T, script string) *bench {
	t.Helper()
	return startWith(t, Options{Models: []Model{{Name: "m", Script: parse(t, script)}}})
}

func startWith(t *testing.T, opts Options) *bench {
	t.Helper()
	s := New(opts)
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return &bench{Simulator: s, url: server.URL, client: server.Client()}
}

func parse(t *testing.T, script string) Script {
	t.Helper()
	s, err := ParseScript(script)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// send posts a body; headers are name, value, name, value.
func (b *bench) send(t *testing.T, path, body string, headers ...string) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return b.client.Do(r)
}

// answer is what a client got.
type answer struct {
	status int
	header http.Header
	body   string
	err    error // of reading the body
}

// post posts a body and reads the answer to its end.
func (b *bench) post(t *testing.T, path, body string, headers ...string) answer {
	t.Helper()
	resp, err := b.send(t, path, body, headers...)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(got), err}
}

// only waits for all exchanges to end and returns the one there was.
func (b *bench) only(t *testing.T) Entry {
	t.Helper()
	b.settle(t)
	entries := b.Ledger().Entries()
	if len(entries) != 1 {
		t.Fatalf("ledger has %d entries, want 1: %+v", len(entries), entries)
	}
	return entries[0]
}

func (b *bench) settle(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := b.Ledger().Wait(ctx); err != nil {
		t.Fatal(err)
	}
}

type usage struct {
	Prompt     int64 `json:"prompt_tokens"`
	Total      int64 `json:"total_tokens"`
	Completion int64 `json:"completion_tokens"`
}

// object is an event or a plain answer, as a client reads it.
type object struct {
	ID, Object, Model string
	Created           int64
	Choices           []struct {
		Index          int
		Delta, Message struct{ Role, Content string }
		Text           string
		FinishReason   string `json:"finish_reason"`
	}
	Usage *usage
	Error *struct {
		Message, Type, Param string
		Code                 int
	}
}

func decode(t *testing.T, text string) object {
	t.Helper()
	var o object
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return o
}

// events splits a stream into the data of its events.
func events(t *testing.T, body string) []string {
	t.Helper()
	if body == "" {
		return nil
	}
	var all []string
	for event := range strings.SplitSeq(strings.TrimSuffix(body, "\n\n"), "\n\n") {
		data, ok := strings.CutPrefix(event, "data: ")
		if !ok {
			t.Fatalf("event %q is not data", event)
		}
		all = append(all, data)
	}
	return all
}

// stream is what a client makes of a stream.
type stream struct {
	Chunks []string // text of each event that has some, all choices
	Finish []string // finish_reason of each choice that ended
	Riding []usage  // that came with choices
	Final  []usage  // that came without
	Errors int
	Bad    int // events that are not JSON
	Done   bool
}

func read(t *testing.T, body string) (s stream) {
	t.Helper()
	for _, data := range events(t, body) {
		if data == "[DONE]" {
			s.Done = true
			continue
		}
		if !json.Valid([]byte(data)) {
			s.Bad++
			continue
		}
		s.add(decode(t, data))
	}
	return s
}

func (s *stream) add(o object) {
	if o.Error != nil {
		s.Errors++
	}
	if o.Usage != nil && len(o.Choices) > 0 {
		s.Riding = append(s.Riding, *o.Usage)
	} else if o.Usage != nil {
		s.Final = append(s.Final, *o.Usage)
	}
	for _, c := range o.Choices {
		if text := c.Delta.Content + c.Text; text != "" {
			s.Chunks = append(s.Chunks, text)
		}
		if c.FinishReason != "" {
			s.Finish = append(s.Finish, c.FinishReason)
		}
	}
}
