package gateway

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/ratelimit/memstore"
	"github.com/weir-gateway/weir/telemetry"
	"github.com/weir-gateway/weir/upstream"
)

// windows is a gateway of models whose windows differ.
func windows(t *testing.T, requests config.Bounds) *Gateway {
	t.Helper()
	cfg := &config.Config{
		Upstreams: []config.Upstream{{Name: "up", CacheSalt: config.SaltUser}},
		Models: []config.Model{
			{Name: "w100", Upstreams: []string{"up"}, Context: 100},
			{Name: "clamped", Upstreams: []string{"up"}, Context: 100, Clamp: true},
			{Name: "w1000", Upstreams: []string{"up"}, Context: 1000},
			{Name: "w9000", Upstreams: []string{"up"}, Context: 9000},
			{Name: "w2000", Upstreams: []string{"up"}, Context: 2000},
			{Name: "unknown", Upstreams: []string{"up"}},
			{Name: "w5000", Upstreams: []string{"up"}, Context: 5000},
			{Name: "secret", Upstreams: []string{"up"}, Context: 1001},
		},
		Requests: requests,
	}
	models, err := upstream.New(cfg, upstream.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g, err := New(Options{
		Config: cfg, Models: models, Keys: keyring.Fixed(map[string]*keyring.Key{"s": {ID: "k", User: "ann", Models: []string{"w*", "clamped", "unknown"}}}),
		Limits: Direct(memstore.New(memstore.Options{})), Metrics: telemetry.NewMetrics(), Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestWindow(t *testing.T) {
	t.Parallel()
	g := windows(t, config.Bounds{})
	long := strings.Repeat("some words of a long story ", 100) // about 600 tokens
	tests := []struct {
		name, body string
		says       string // "" lets it pass
	}{
		{"fits", `{"model":"w100","messages":[{"role":"user","content":"hi"}],"max_tokens":90}`, ""},
		{"the upstream is to judge", `{"model":"w100","messages":[{"role":"user","content":"hi"}],"max_tokens":100}`, ""},
		{"the answer alone does not fit", `{"model":"w100","messages":[{"role":"user","content":"hi"}],"max_tokens":101}`, "maximum context length is 100 tokens"},
		{"the prompt does not fit", `{"model":"w100","messages":[{"role":"user","content":"` + long + `"}]}`, "with a larger window: w1000, w2000, w5000."},
		{"nor in the next models", `{"model":"w100","messages":[{"role":"user","content":"` + long + `"}],"max_tokens":4000}`, "and asks for up to 4000 more. Shorten the messages, or ask for fewer tokens, or use a model with a larger window: w5000, w9000."},
		{"no window", `{"model":"unknown","messages":[{"role":"user","content":"` + long + `"}],"max_tokens":400000}`, ""},
		{"clamped, and still too long", `{"model":"clamped","messages":[{"role":"user","content":"` + long + `"}]}`, "Your request has about"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x, err := g.Admit(t.Context(), call("k", tt.body))
			switch {
			case err == nil:
				x.End()
				if tt.says != "" {
					t.Errorf("it passes, want %q", tt.says)
				}
			case tt.says == "" || !strings.Contains(err.Message, tt.says):
				t.Errorf("%v, want %q", err, tt.says)
			case err.Status != 400 || err.Code != openai.CodeContextLength || err.Param != "messages" || err.Detail.Context != 100 || err.Detail.Estimate == 0:
				t.Errorf("%+v", err)
			}
		})
	}
}

func TestManyPromptsHaveTheWindowEach(t *testing.T) {
	t.Parallel()
	g := windows(t, config.Bounds{})
	c := call("k", `{"model":"w100","prompt":[`+strings.Repeat(`"some words of a story, as long as many others are and not longer",`, 50)+`"end"]}`)
	c.Endpoint = openai.Completions
	x, err := g.Admit(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	x.End()
}

// TestBodiesThatAreBounded looks at what is sent upstream.
func TestBodiesThatAreBounded(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, body, want string }{
		{
			"clamped", `{"model":"clamped","messages":[{"role":"user","content":"hi"}],"max_tokens":5000,"max_completion_tokens":7000}`,
			`{SALT,"model":"clamped","messages":[{"role":"user","content":"hi"}],"max_tokens":REST,"max_completion_tokens":REST}`,
		},
		{"in the client's own salt's place", `{"model":"w100","messages":[],"cache_salt":null}`, `{"model":"w100","messages":[],SALT}`},
		{"salted", `{"model":"w100","messages":[]}`, `{SALT,"model":"w100","messages":[]}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := windows(t, config.Bounds{})
			x, refused := g.Admit(t.Context(), call("k", tt.body))
			if refused != nil {
				t.Fatal(refused)
			}
			defer x.End()
			body, _ := x.Body()
			want := strings.NewReplacer("SALT", `"cache_salt":"`+x.salt()+`"`, "REST", "90").Replace(tt.want)
			if x.reserved.output > 100 {
				t.Errorf("%d tokens reserved", x.reserved.output)
			}
			if diff := cmp.Diff(want, string(body)); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSaltsDiffer(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, who := range []keyring.Key{{ID: "a", User: "ann", Team: "x"}, {ID: "b", User: "ann", Team: "y"}, {ID: "c"}, {ID: "ann"}} {
		for _, by := range []config.Salt{config.SaltKey, config.SaltUser, config.SaltTeam} {
			x := &Exchange{key: &who, target: upstream.Target{Server: &upstream.Server{Upstream: config.Upstream{CacheSalt: by}}}}
			seen[x.salt()] += who.ID
		}
	}
	// Four keys, ann and two keys without a user, two teams and two keys without one.
	if len(seen) != 4+3+4 {
		t.Errorf("%d salts, want 11: %v", len(seen), seen)
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		member  string
		bounds  config.Bounds
		refused string // the parameter
	}{
		{`"n":128`, config.Bounds{}, ""},
		{`"n":129`, config.Bounds{}, "n"},
		{`"n":3`, config.Bounds{MaxChoices: 2}, "n"},
		{`"best_of":129`, config.Bounds{}, "best_of"},
		{`"logprobs":true,"top_logprobs":20`, config.Bounds{}, ""},
		{`"logprobs":true,"top_logprobs":21`, config.Bounds{}, "top_logprobs"},
		{`"top_logprobs":0`, config.Bounds{}, ""},
		{`"priority":-1`, config.Bounds{}, "priority"},
		{`"priority":null`, config.Bounds{}, ""},
		{`"priority":-1`, config.Bounds{Allow: []string{"priority"}}, ""},
		{`"cache_salt":"mine"`, config.Bounds{}, "cache_salt"},
		{`"prompt_logprobs":-1`, config.Bounds{}, "prompt_logprobs"},
		{`"use_beam_search":false`, config.Bounds{}, ""},
		{`"use_beam_search":true`, config.Bounds{}, "use_beam_search"},
		{`"kv_transfer_params":{"do_remote_decode":true}`, config.Bounds{}, "kv_transfer_params"},
		{`"ignore_eos":true,"min_tokens":3,"echo":true,"user":"x"`, config.Bounds{}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.member, func(t *testing.T) {
			x, err := windows(t, tt.bounds).Admit(t.Context(), call("k", `{"model":"w1000","messages":[],`+tt.member+`}`))
			switch {
			case err == nil:
				x.End()
				if tt.refused != "" {
					t.Error("it passes")
				}
			case err.Param != tt.refused || err.Status != 400 || tt.refused == "":
				t.Errorf("%v, param %q", err, err.Param)
			}
		})
	}
}

// TestEveryExtensionCanBeAllowed compares the configuration's schema with what is refused.
func TestEveryExtensionCanBeAllowed(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "weir.yaml")
	text := "upstreams: [{name: u, url: \"http://127.0.0.1:1/v1\", models: catalogue}]\nkeys: {files: [keys.yaml]}\nrequests: {allow: [" + strings.Join(openai.ExtensionNames(), ", ") + "]}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	if b := newBounds(cfg.Requests); b.refused != 0 {
		t.Errorf("%s is still refused", b.refused.First())
	}
}

func TestFormsAreBounded(t *testing.T) {
	t.Parallel()
	for value, refused := range map[string]bool{"true": true, "false": false} {
		c := call("k", "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nw1000\r\n"+
			"--b\r\nContent-Disposition: form-data; name=\"use_beam_search\"\r\n\r\n"+value+"\r\n"+
			"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nsound\r\n--b--\r\n")
		c.Endpoint, c.ContentType = openai.Transcriptions, "multipart/form-data; boundary=b"
		x, err := windows(t, config.Bounds{}).Admit(t.Context(), c)
		if err == nil {
			x.End()
		}
		if (err != nil) != refused || refused && err.Param != "use_beam_search" {
			t.Errorf("use_beam_search=%s: %v", value, err)
		}
	}
}
