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
	for _, e := range []Endpoint{ChatCompletions, Completions} {
		if e.String() == r.Endpoint {
			return e
		}
	}
	return Unknown
}

// recordings returns the recorded answers that want accepts.
func recordings(t testing.TB, want func(recording) bool) []recording {
	t.Helper()
	dir := filepath.Join("testdata", "wire")
	index, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all, chosen []recording
	if err := json.Unmarshal(index, &all); err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		if !want(r) {
			continue
		}
		if r.body, err = os.ReadFile(filepath.Join(dir, r.File)); err != nil {
			t.Fatal(err)
		}
		chosen = append(chosen, r)
	}
	if len(chosen) == 0 {
		t.Fatal("no such recordings")
	}
	return chosen
}

func isStream(r recording) bool { return strings.HasSuffix(r.File, ".sse") }

func isPlain(r recording) bool { return r.Status == 200 && strings.HasSuffix(r.File, ".json") }

func isError(r recording) bool { return r.Status >= 400 }
