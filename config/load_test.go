package config

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "github.com/weir-gateway/weir/proto/weir/config/v1"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func testEnv(name string) (string, bool) {
	v, ok := map[string]string{
		"HOSTED_URL": "https://ai.example.org/v1",
		"HOSTED_KEY": "sk-hosted-0123456789",
		"SECRET":     "sk-canary-0123456789",
	}[name]
	return v, ok
}

func TestGoodFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/*.good.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			if _, err := Load(file, testEnv); err != nil {
				t.Error(err)
			}
		})
	}
}

// Each bad file has its messages beside it, word for word.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/*.bad.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse(filepath.Base(file), text, false, testEnv)
			if err == nil {
				t.Fatal("no error")
			}
			got := err.Error() + "\n"
			if strings.Contains(got, "canary") {
				t.Errorf("the message shows a secret:\n%s", got)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoadFillsIn(t *testing.T) {
	c, err := Load("testdata/everything.good.yaml", testEnv)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.Upstreams[0].URL.String(), "http://127.0.0.1:8002/v1"; got != want {
		t.Errorf("url = %q, want %q", got, want)
	}
	if got, want := c.Upstreams[1].Key.Reveal(), "sk-hosted-0123456789"; got != want {
		t.Errorf("key = %q, want the value of ${HOSTED_KEY}", got)
	}
	if got, want := c.Upstreams[0].Connect, DefaultConnectTimeout; got != want {
		t.Errorf("connect timeout = %v, want the default %v", got, want)
	}
	if got, want := c.Keys.Files[1], filepath.Join("testdata", "config", "api_keys.json"); got != want {
		t.Errorf("key file = %q, want %q: relative to weir.yaml", got, want)
	}
	want := []Limit{
		{Name: "site-concurrency", Unit: Concurrency, Amount: 500},
		{Name: "key-qps", Per: []Scope{PerKey}, Unit: Requests, Amount: 20, Window: time.Second, Burst: 40},
		{Name: "key-tpm", Per: []Scope{PerKey}, Unit: Tokens, Amount: 100000, Window: time.Minute},
		{Name: "out", Per: []Scope{PerUser, PerModel}, Unit: OutputTokens, Amount: 2000000, Window: 24 * time.Hour},
		{Name: "in", Per: []Scope{PerTeam, PerPlan}, Unit: InputTokens, Amount: 500, Window: 10 * time.Second},
		{Name: "key-slots", Per: []Scope{PerKey}, Unit: Concurrency, Amount: 8},
	}
	if diff := cmp.Diff(want, c.Limits); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
}

func TestDashboardIsOnWithAdmin(t *testing.T) {
	const rest = "upstreams: [{name: u, url: \"http://127.0.0.1:8002/v1\"}]\nmodels: [{name: m, upstreams: [u]}]\n"
	for admin, want := range map[string]Admin{
		"": {},
		"admin: {listen: \"127.0.0.1:9090\", token_file: /token}\n":                   {Listen: "127.0.0.1:9090", TokenFile: "/token", Dashboard: true},
		"admin: {listen: \"127.0.0.1:9090\", token_file: /token, dashboard: false}\n": {Listen: "127.0.0.1:9090", TokenFile: "/token"},
	} {
		c, err := Parse("weir.yaml", []byte(admin+rest), true, testEnv)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, c.Admin); diff != "" {
			t.Errorf("%q (-want +got):\n%s", admin, diff)
		}
	}
}

func TestInlineSecretInPrivateFile(t *testing.T) {
	text, err := os.ReadFile("testdata/inline-secret.bad.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse("weir.yaml", text, true, testEnv); err != nil {
		t.Errorf("a file that only its owner can read may hold a secret: %v", err)
	}
}

// addSeeds begins with the configurations of the other tests.
func addSeeds(f *testing.F) {
	f.Helper()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
}

// FuzzParse reads what strangers write: it may refuse, never panic.
func FuzzParse(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg, err := Parse("weir.yaml", text, true, testEnv)
		if (cfg == nil) == (err == nil) {
			t.Errorf("configuration %v, error %v: want one of them", cfg, err)
		}
		if _, err := ParseKeyFile("keys.yaml", text, nil); err != nil && err.Error() == "" {
			t.Error("an error without a word")
		}
	})
}

// FuzzShape holds what weir says of shapes to what protoyaml takes: all that it refuses
// is told, and all that it takes is read.
func FuzzShape(f *testing.F) {
	addSeeds(f)
	f.Add([]byte("\r8 is no mapping"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p := newProblems("weir.yaml")
		readable := p.unmarshal(text, &configv1.Config{})
		theirs := decode("weir.yaml", text, &configv1.Config{})
		if theirs != nil && len(p.list) == 0 {
			t.Errorf("nothing is told of %v", theirs)
		}
		if theirs == nil && !readable {
			t.Errorf("nothing is read, for %v", p.err())
		}
	})
}

// The kinds of fields that scalarShape knows are those of the schema.
func TestKindsOfTheSchema(t *testing.T) {
	known := []protoreflect.Kind{
		protoreflect.BoolKind, protoreflect.EnumKind, protoreflect.StringKind, protoreflect.MessageKind,
		protoreflect.Int64Kind, protoreflect.Uint64Kind, protoreflect.Uint32Kind,
	}
	messages := configv1.File_weir_config_v1_config_proto.Messages()
	for i := range messages.Len() {
		fields := messages.Get(i).Fields()
		for j := range fields.Len() {
			if f := fields.Get(j); !slices.Contains(known, f.Kind()) {
				t.Errorf("%s is a %v, of which scalarShape knows nothing", f.FullName(), f.Kind())
			}
		}
	}
}
