package openai

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// recording is an answer of a real server, without its framing.
type recording struct {
	File        string `json:"file"` // server/case.ext
	Status      int    `json:"status"`
	ContentType string `json:"content_type"`
	Endpoint    string `json:"endpoint"`
	body        []byte
}

func (r recording) endpoint() Endpoint {
	for _, e := range Endpoints() {
		if e.String() == r.Endpoint {
			return e
		}
	}
	return Unknown
}

// recordings returns the recorded answers that want accepts.
func recordings(t testing.TB, want func(recording) bool) (chosen []recording) {
	t.Helper()
	for _, dir := range []string{"wire", "endpoints"} {
		for _, r := range index(t, dir) {
			if !want(r) {
				continue
			}
			body, err := os.ReadFile(filepath.Join("testdata", dir, r.File))
			if err != nil {
				t.Fatal(err)
			}
			r.body = body
			chosen = append(chosen, r)
		}
	}
	if len(chosen) == 0 {
		t.Fatal("no such recordings")
	}
	return chosen
}

// index lists the recordings of a folder.
func index(t testing.TB, dir string) (all []recording) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func isStream(r recording) bool { return strings.HasSuffix(r.File, ".sse") }

// hasChoices tells whether a recording is of an endpoint whose answers have choices.
func hasChoices(r recording) bool {
	ep := r.endpoint()
	return ep == Unknown || ep == ChatCompletions || ep == Completions
}

func isPlain(r recording) bool { return r.Status == 200 && strings.HasSuffix(r.File, ".json") }

func isError(r recording) bool { return r.Status >= 400 }
