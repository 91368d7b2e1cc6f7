package e2e

import (
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// wire is where the recorded answers of real servers lie.
const wire = "../openai/testdata/wire"

// replay is an upstream that answers with a recorded stream, cut as the request
// asks for.
func replay(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	body, err := os.ReadFile(filepath.Join(wire, r.Header.Get("X-File")))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	rc := http.NewResponseController(w)
	for len(body) > 0 {
		n := len(body)
		switch r.Header.Get("X-Cut") {
		case "pieces":
			n = min(n, 1+rand.IntN(300))
		case "bytes":
			n = 1
		}
		_, _ = w.Write(body[:n])
		_ = rc.Flush()
		if r.Header.Get("X-Cut") == "pieces" {
			time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
		}
		body = body[n:]
	}
}

// TestRecordedStreams sends every recorded stream of a real server through Envoy
// and weir. A client that asked for usage gets the very bytes; one that did not
// gets all but the events that tell only usage.
func TestRecordedStreams(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]fixture{
		"streamed": {metering: "streamed"}, "native": {metering: "native"}, "watched": {idle: "1m"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f.upstream = http.HandlerFunc(replay)
			r := start(t, f)
			recordedStreams(t, r)
			if n := r.metric(`weir_answers_metered_total{metering="native"}`); (n != "") != (name == "native") {
				t.Errorf("%q answers were metered natively", n)
			}
		})
	}
}

func recordedStreams(t *testing.T, r *rig) {
	t.Helper()
	files, err := filepath.Glob(wire + "/*/*.sse")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d recorded streams: %v", len(files), err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(filepath.ToSlash(file), wire+"/")
		less, complete := withoutUsage(string(body))
		for _, cut := range []string{"whole", "pieces", "bytes"} {
			if cut == "bytes" && len(body) > 4000 {
				continue // each byte is a round trip to weir
			}
			got := r.post(chat(`"stream":true`), "X-File", name, "X-Cut", cut)
			compareStream(t, name+", "+cut, got.body, less, complete)
			got = r.post(chat(`"stream":true`, `"stream_options":{"include_usage":true}`), "X-File", name, "X-Cut", cut)
			compareStream(t, name+", "+cut+", asked for usage", got.body, string(body), complete)
		}
	}
}

func compareStream(t *testing.T, name, got, want string, complete bool) {
	t.Helper()
	rest, ok := strings.CutPrefix(got, want)
	if !ok || complete && rest != "" || !complete && !strings.HasPrefix(rest, "\n\ndata: {\"error\":") {
		t.Errorf("%s: the client got %d bytes, want the %d of the upstream; after them %q", name, len(got), len(want), rest)
	}
}

// withoutUsage is a stream less the events that have no choices and tell usage,
// and whether it says that it is complete.
func withoutUsage(stream string) (less string, complete bool) {
	var kept strings.Builder
	for event := range strings.SplitAfterSeq(stream, "\n\n") {
		text := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(event), "data:"))
		var v struct {
			Choices *[]struct {
				FinishReason *string `json:"finish_reason"`
			}
			Usage map[string]any
			Error any
		}
		if json.Unmarshal([]byte(text), &v) != nil {
			v.Choices = nil
		}
		if v.Choices != nil && len(*v.Choices) == 0 && v.Usage != nil && v.Error == nil {
			continue
		}
		complete = complete || text == "[DONE]" || v.Error != nil
		if v.Choices != nil {
			for _, c := range *v.Choices {
				complete = complete || c.FinishReason != nil
			}
		}
		kept.WriteString(event)
	}
	return kept.String(), complete
}
