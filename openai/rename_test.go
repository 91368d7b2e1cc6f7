package openai

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// renamed writes text in pieces of n bytes.
func renamed(text string, events bool, n int) string {
	r := NewRenamer(Unknown, `new "name"`, events)
	var out strings.Builder
	for len(text) > 0 {
		k := min(n, len(text))
		out.Write(r.Write([]byte(text[:k])))
		text = text[k:]
	}
	return out.String()
}

func TestRename(t *testing.T) {
	const to = `"new \"name\""`
	tests := []struct {
		name, in, want string
		events         bool
	}{
		{"first", `{"model":"old","x":1}`, `{"model":` + to + `,"x":1}`, false},
		{"last", `{"x":{"model":"inner"},"y":["model","z"],"model" : "o\"l\\"}`, `{"x":{"model":"inner"},"y":["model","z"],"model" : ` + to + `}`, false},
		{"once", `{"model":"a","model":"b"}`, `{"model":` + to + `,"model":"b"}`, false},
		{"null", `{"model":null,"id":"model"}`, `{"model":null,"id":"model"}`, false},
		{"an object", `{"model":{"a":"b"},"c":"d"}`, `{"model":{"a":"b"},"c":"d"}`, false},
		{"a value", `{"a":"model","b":"c"}`, `{"a":"model","b":"c"}`, false},
		{"longer names", `{"models":"a","mode":"b","model_":"c"}`, `{"models":"a","mode":"b","model_":"c"}`, false},
		{"an array", `[{"model":"a"}]`, `[{"model":"a"}]`, false},
		{"no JSON", `<html "model":"a">`, `<html "model":"a">`, false},
		{"nothing", ``, ``, false},
		{
			"events", "data: {\"model\":\"a\"}\n\nevent: x\r\ndata:{\"id\":1,\"model\":\"b\"}\r\n\r\n: data: {\"model\":\"c\"}\n\ndata: [DONE]\n\n",
			"data: {\"model\":" + to + "}\n\nevent: x\r\ndata:{\"id\":1,\"model\":" + to + "}\r\n\r\n: data: {\"model\":\"c\"}\n\ndata: [DONE]\n\n", true,
		},
		{"half an event", "data: {\"model\":\"a\n\ndata: {\"model\":\"b\"}\n\n", "data: {\"model\":" + to + "\n\ndata: {\"model\":" + to + "}\n\n", true},
	}
	for _, tt := range tests {
		for n := 1; n <= max(1, len(tt.in)); n++ {
			if got := renamed(tt.in, tt.events, n); got != tt.want {
				t.Errorf("%s, %d bytes at a time: %s, want %s", tt.name, n, got, tt.want)
				break
			}
		}
	}
}

// TestRenameRecorded renames every recorded stream, and compares it event by event.
func TestRenameRecorded(t *testing.T) {
	files, err := filepath.Glob("testdata/wire/*/*.sse")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d recorded streams: %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		whole := renamed(string(text), true, len(text)+1)
		if got := renamed(string(text), true, 7); got != whole {
			t.Errorf("%s: another result in pieces", file)
		}
		before, after := strings.Split(string(text), "\n"), strings.Split(whole, "\n")
		if len(before) != len(after) {
			t.Fatalf("%s: %d lines became %d", file, len(before), len(after))
		}
		for i := range before {
			var a, b map[string]any
			if json.Unmarshal([]byte(strings.TrimPrefix(before[i], "data:")), &a) != nil {
				if before[i] != after[i] {
					t.Errorf("%s: line %q became %q", file, before[i], after[i])
				}
				continue
			}
			if err := json.Unmarshal([]byte(strings.TrimPrefix(after[i], "data:")), &b); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if _, ok := a["model"].(string); ok {
				a["model"] = `new "name"`
			}
			x, _ := json.Marshal(a)
			y, _ := json.Marshal(b)
			if string(x) != string(y) {
				t.Errorf("%s: %s became %s", file, before[i], after[i])
			}
		}
	}
}

func FuzzRename(f *testing.F) {
	f.Add(`{"model":"a","b":[1,{"model":2}]}`, true, 3)
	f.Add("data: {\"model\":\"a\"}\n\n", true, 1)
	f.Fuzz(func(t *testing.T, text string, events bool, n int) {
		n = 1 + max(0, n)%64
		if a, b := renamed(text, events, n), renamed(text, events, len(text)+1); a != b {
			t.Errorf("%q: %q in pieces of %d, %q whole", text, a, n, b)
		}
	})
}
