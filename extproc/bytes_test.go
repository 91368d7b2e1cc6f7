package extproc_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-gateway/weir/extproc/extproctest"
)

// wire is where the recorded answers of real servers lie.
const wire = "../openai/testdata/wire"

// recordedStreams are the recorded event streams of chats and completions, by
// file.
func recordedStreams(t *testing.T) map[string][]byte {
	t.Helper()
	index, err := os.ReadFile(filepath.Join(wire, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		File     string
		Endpoint string
	}
	if err := json.Unmarshal(index, &list); err != nil {
		t.Fatal(err)
	}
	streams := map[string][]byte{}
	for _, r := range list {
		if !strings.HasSuffix(r.File, ".sse") {
			continue
		}
		if streams[r.File], err = os.ReadFile(filepath.Join(wire, r.File)); err != nil {
			t.Fatal(err)
		}
	}
	if len(streams) < 30 {
		t.Fatalf("%d recorded streams, want 30 and more", len(streams))
	}
	return streams
}

// expected is what a client that did not ask for usage must get of a stream: all
// but the events without choices that tell usage; and if the stream does not say
// that it is complete, an error event at its end. It reads JSON with
// encoding/json, not with what it tests.
func expected(t *testing.T, stream []byte) (want []byte, complete bool) {
	t.Helper()
	for event := range bytes.SplitAfterSeq(stream, []byte("\n\n")) {
		text := bytes.TrimSpace(bytes.TrimPrefix(bytes.TrimSpace(event), []byte("data:")))
		var v struct {
			Choices *[]struct {
				FinishReason *string `json:"finish_reason"`
			}
			Usage map[string]any
			Error any
		}
		switch {
		case string(text) == "[DONE]":
			complete = true
		case len(text) > 0 && json.Unmarshal(text, &v) == nil:
			if v.Error != nil {
				complete = true // says itself that it failed
			}
			if v.Choices != nil && len(*v.Choices) == 0 && v.Usage != nil && v.Error == nil {
				continue
			}
			if v.Choices != nil {
				for _, c := range *v.Choices {
					complete = complete || c.FinishReason != nil
				}
			}
		}
		want = append(want, event...)
	}
	return want, complete
}

// TestStreamsPassByteForByte splits every recorded stream at every byte, and into
// single bytes.
func TestStreamsPassByteForByte(t *testing.T) {
	for file, stream := range recordedStreams(t) {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			defer r.records()
			want, complete := expected(t, stream)
			for i := 0; i <= len(stream); i += splitStep {
				x := request(chatPath, streamed)
				x.Answer = sse(string(stream[:i]), string(stream[i:]))
				check(t, r.run(x).Client.Body, want, complete)
				if t.Failed() {
					t.Fatalf("split at byte %d", i)
				}
			}
			x := request(chatPath, streamed)
			x.Answer = sse(strings.Split(string(stream), "")...)
			check(t, r.run(x).Client.Body, want, complete)
		})
	}
}

func check(t *testing.T, got, want []byte, complete bool) {
	t.Helper()
	rest, ok := bytes.CutPrefix(got, want)
	switch {
	case !ok:
		t.Errorf("the client got\n%q\nwant\n%q", got, want)
	case complete && len(rest) > 0:
		t.Errorf("after the stream the client got %q", rest)
	case !complete && (!bytes.HasPrefix(rest, []byte("\n\ndata: {\"error\":{")) || !bytes.HasSuffix(rest, []byte("}\n\n"))):
		t.Errorf("a stream that was not complete ends in %q, want an error event", rest)
	}
}

// TestStreamsOfClientsThatAskedPassUntouched sends what the client asked for.
func TestStreamsOfClientsThatAskedPassUntouched(t *testing.T) {
	r := newRig(t)
	asked := strings.Replace(streamed, "{", `{"stream_options":{"include_usage":true},`, 1)
	for file, stream := range recordedStreams(t) {
		x := request(chatPath, asked)
		x.Answer = sse(string(stream[:len(stream)/3]), string(stream[len(stream)/3:]))
		_, complete := expected(t, stream)
		check(t, r.run(x).Client.Body, stream, complete)
		if t.Failed() {
			t.Fatal(file)
		}
	}
	if n := len(r.records()); n == 0 {
		t.Error("no exchange was settled")
	}
}

// TestPlainAnswersPassByteForByte splits every recorded JSON answer.
func TestPlainAnswersPassByteForByte(t *testing.T) {
	files, err := filepath.Glob(wire + "/*/*.json")
	if err != nil || len(files) < 100 {
		t.Fatalf("%d recorded answers: %v", len(files), err)
	}
	r := newRig(t)
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(body); i += 1 + len(body)/50 {
			x := request(chatPath, plain)
			x.Answer = answer(200, "application/json", string(body[:i]), string(body[i:]))
			x.Answer.End = extproctest.Together
			if got := r.run(x).Client.Body; !bytes.Equal(got, body) {
				t.Fatalf("%s, split at byte %d: the client got %q", file, i, got)
			}
		}
	}
	r.records()
}
