package e2e

import (
	"bytes"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/weir-gateway/weir/ledger"
)

const (
	transcriptions = "/v1/audio/transcriptions"
	translations   = "/v1/audio/translations"
)

// recordingOf is a form with a file of that length and fields as pairs, which come
// before the file. Its content is anything.
func recordingOf(t *testing.T, size int, fields ...string) (body, contentType string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i+1 < len(fields); i += 2 {
		if err := w.WriteField(fields[i], fields[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	f, err := w.CreateFormFile("file", "speech.wav")
	if err != nil {
		t.Fatal(err)
	}
	audio, random := make([]byte, size), rand.New(rand.NewPCG(1, 2))
	for i := range audio {
		audio[i] = byte(random.Uint32())
	}
	_, _ = f.Write(audio)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String(), w.FormDataContentType()
}

// TestAudio sends recordings of several megabytes, which reach the upstream byte for
// byte but for the model's name, and compares what was counted with what it heard.
func TestAudio(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{
		model: "tokens=7", limits: "  - {name: key-tpm, per: [key], tokens: 1000000/h}\n",
		models: "  - {name: own, upstreams: [dead, sim], served_as: {sim: m, dead: elsewhere}}\n",
		extra:  "default_model: m",
	})
	tests := []struct {
		name, path, model string
		fields            []string
		want              string
		seconds           float64 // as they are told
		tokens            bool
	}{
		{"plain", transcriptions, "m", nil, `"usage":{"type":"duration","seconds":99}`, 99, false},
		{"translated", translations, "alias", []string{"prompt", promptCanary}, `"seconds":99`, 99, false},
		{"served under another name, after an attempt elsewhere", transcriptions, "own", nil, `"seconds":99`, 99, false},
		{"in detail", transcriptions, "m", []string{"response_format", "verbose_json"}, `"duration":"99"`, 99, false},
		{"as text", transcriptions, "m", []string{"response_format", "text"}, "lorem ipsum", 0, false},
		{"streamed", transcriptions, "alias", []string{"stream", "true"}, "data: [DONE]", 0, false},
		{"streamed with usage", transcriptions, "alias", []string{"stream", "true", "stream_include_usage", "true"}, `"choices":[],"usage":`, 0, true},
		{"without a model", transcriptions, "", nil, `"seconds":99`, 99, false},
	}
	for i, tt := range tests {
		fields := tt.fields
		if tt.model != "" {
			fields = append(fields, "model", tt.model)
		}
		body, contentType := recordingOf(t, 98*32_000+1, fields...)
		got := r.do(http.MethodPost, tt.path, body, "Content-Type", contentType)
		if got.status != http.StatusOK || !strings.Contains(got.body, tt.want) {
			t.Fatalf("%s: status %d, body %.400s", tt.name, got.status, got.body)
		}
		rec, entry := r.settled(i + 1)[i], r.entry(i+1)
		want := strings.Replace(body, "\r\n\r\n"+tt.model+"\r\n", "\r\n\r\nm\r\n", 1)
		if tt.model == "" {
			boundary := body[:strings.Index(body, "\r\n")]
			want = boundary + "\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n" + body
		}
		if string(entry.Body) != want {
			t.Errorf("%s: the upstream got %d bytes, which are not those that were sent", tt.name, len(entry.Body))
		}
		tokens, source := ledger.Tokens{}, ledger.Missing
		switch {
		case tt.tokens:
			tokens, source = ledger.Tokens{Input: entry.Prompt, Output: entry.Completion}, ledger.Exact
		case tt.seconds > 0:
			source = ledger.Exact
		}
		if entry.Seconds != 99 || rec.AudioSeconds != tt.seconds || rec.Tokens != tokens || rec.Source != source || rec.Outcome != ledger.OK || rec.Reserved != 0 {
			t.Errorf("%s: ledger %+v", tt.name, rec)
		}
	}
	if used := r.used("key-tpm"); used != r.entry(7).Prompt+7 {
		t.Errorf("the limit has counted %d tokens", used)
	}
}

func TestAudioRefused(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{limits: "  - {name: rpm, per: [key], requests: 1/h}\n"})
	good, contentType := recordingOf(t, 1000, "model", "m")
	twice, twiceType := recordingOf(t, 1000, "model", "m", "model", "dear")
	unknown, unknownType := recordingOf(t, 1000, "model", "nope")
	tests := []struct {
		name, body, contentType string
		status                  int
		code                    string
	}{
		{"JSON", `{"model":"m"}`, "application/json", 400, "invalid_form"},
		{"two models", twice, twiceType, 400, "duplicate_parameter"},
		{"unknown model", unknown, unknownType, 404, "model_not_found"},
		{"another boundary", good, "multipart/form-data; boundary=other", 400, "invalid_form"},
		{"cut off", good[:len(good)-20], contentType, 400, "invalid_form"},
		{"nothing", "", contentType, 400, "invalid_form"},
	}
	for _, tt := range tests {
		got := r.do(http.MethodPost, transcriptions, tt.body, "Content-Type", tt.contentType)
		if got.status != tt.status || got.code() != tt.code {
			t.Errorf("%s: status %d, body %s, want %d %s", tt.name, got.status, got.body, tt.status, tt.code)
		}
	}
	if n := r.sim.Ledger().Len(); n != 0 {
		t.Errorf("%d requests reached the upstream", n)
	}
	if got := r.do(http.MethodPost, transcriptions, good, "Content-Type", contentType); got.status != http.StatusOK {
		t.Errorf("status %d, body %s", got.status, got.body)
	}
	if got := r.do(http.MethodPost, translations, good, "Content-Type", contentType); got.status != http.StatusTooManyRequests || got.errorObject().Weir.Limit != "rpm" {
		t.Errorf("one request too many: status %d, body %s", got.status, got.body)
	}
}
