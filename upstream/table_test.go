package upstream

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-gateway/weir/config"
)

func testConfig(keyFile string) *config.Config {
	return &config.Config{
		Upstreams: []config.Upstream{
			{Name: "local"},
			{Name: "hosted", KeyFile: keyFile},
		},
		Models: []config.Model{
			{Name: "qwen/qwen3-32b", Aliases: []string{"gpt-4o"}, Upstreams: []string{"hosted"}},
			{Name: "llama", Upstreams: []string{"local"}},
		},
		DefaultModel: "gpt-4o",
	}
}

func writeKey(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestResolve(t *testing.T) {
	table, err := New(testConfig(writeKey(t, "sk-hosted\n")), Options{})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, model, upstream, credential string }{
		{"qwen/qwen3-32b", "qwen/qwen3-32b", "hosted", "sk-hosted"},
		{"gpt-4o", "qwen/qwen3-32b", "hosted", "sk-hosted"},
		{"", "qwen/qwen3-32b", "hosted", "sk-hosted"},
		{"llama", "llama", "local", ""},
	}
	for _, tt := range tests {
		r, ok := table.Table().Resolve(tt.name)
		if !ok || r.Model.Name != tt.model || r.Targets[0].Server.Name != tt.upstream || r.Targets[0].Server.Credential.Reveal() != tt.credential {
			t.Errorf("Resolve(%q) = %+v, %v; want %+v", tt.name, r, ok, tt)
		}
	}
	if _, ok := table.Table().Resolve("GPT-4o"); ok {
		t.Error("a name in another case was found; names are exact")
	}
}

func TestNoDefaultModel(t *testing.T) {
	cfg := testConfig(writeKey(t, "k"))
	cfg.DefaultModel = ""
	table, err := New(cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if r, ok := table.Table().Resolve(""); ok {
		t.Errorf("the empty name resolved to %q, want nothing", r.Model.Name)
	}
}

func TestBadKeyFiles(t *testing.T) {
	for name, text := range map[string]string{"empty": "\n", "two": "a\nb\n"} {
		if _, err := New(testConfig(writeKey(t, text)), Options{}); err == nil || !strings.Contains(err.Error(), "one credential") {
			t.Errorf("%s: error %v, want that the file must hold one credential", name, err)
		}
	}
	if _, err := New(testConfig("/no/such/file"), Options{}); err == nil || !strings.Contains(err.Error(), `upstream "hosted"`) {
		t.Errorf("missing file: error %v, want the upstream named", err)
	}
}
