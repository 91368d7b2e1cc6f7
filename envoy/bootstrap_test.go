package envoy

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-gateway/weir/config"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func load(t *testing.T, file string) *config.Config {
	t.Helper()
	cfg, err := config.Load(file, func(name string) (string, bool) { return "sk-canary-" + name, name == "KEY" })
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestBootstrapGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.weir.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			cfg := load(t, file)
			sockets, err := SocketsIn("/run/weir")
			if err != nil {
				t.Fatal(err)
			}
			b, err := Bootstrap(cfg, sockets, "/etc/ssl/certs/ca-certificates.crt")
			if err != nil {
				t.Fatal(err)
			}
			got, err := YAML(b)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(got, []byte("canary")) {
				t.Error("the bootstrap shows a credential")
			}
			golden := strings.TrimSuffix(file, ".weir.yaml") + ".envoy.yaml"
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("bootstrap (-want +got):\n%s", diff)
			}
			binary, err := Find(os.Getenv)
			if err != nil {
				t.Fatal(err)
			}
			if err := Validate(t.Context(), binary, b); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestValidateTellsWhatEnvoySays(t *testing.T) {
	binary, err := Find(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckVersion(t.Context(), binary); err != nil {
		t.Fatal(err)
	}
	cfg := load(t, "testdata/small.weir.yaml")
	b, err := Bootstrap(cfg, Sockets{GRPC: "/g", API: "/a", Admin: "/e"}, "/no/such/ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	b.StaticResources.Clusters = b.GetStaticResources().GetClusters()[:1]
	err = Validate(t.Context(), binary, b)
	if err == nil || !strings.Contains(err.Error(), "unknown cluster") {
		t.Errorf("error %v, want Envoy's own words about the unknown cluster", err)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	env := func(m map[string]string) func(string) string { return func(k string) string { return m[k] } }
	t.Setenv("PATH", dir)
	_, err := Find(env(map[string]string{"HOME": dir}))
	if err == nil || !strings.Contains(err.Error(), "make envoy") {
		t.Errorf("nothing there: %v, want the way out", err)
	}
	_, err = Find(env(map[string]string{"ENVOY": dir + "/nope"}))
	if err == nil || !strings.Contains(err.Error(), "ENVOY names no file") {
		t.Errorf("$ENVOY wrong: %v", err)
	}
	cached := filepath.Join(dir, ".cache", "weir", "envoy-"+Version)
	if err := os.MkdirAll(filepath.Dir(cached), 0o755); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\necho 'envoy  version: 0123456789abcdef/1.39.3/Clean/RELEASE/BoringSSL'\n"
	if err := os.WriteFile(cached, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	binary, err := Find(env(map[string]string{"HOME": dir}))
	if err != nil || binary != cached {
		t.Errorf("Find = %q, %v, want the cached one", binary, err)
	}
	err = CheckVersion(t.Context(), binary)
	if err == nil || !strings.Contains(err.Error(), "is Envoy 1.39.3; weir needs "+Version) {
		t.Errorf("an older release: %v", err)
	}
}

func TestSocketPathTooLong(t *testing.T) {
	_, err := SocketsIn("/" + strings.Repeat("x", 120))
	if err == nil || !strings.Contains(err.Error(), "too long for a Unix socket") {
		t.Errorf("error %v", err)
	}
}

func TestBadListenAddress(t *testing.T) {
	cfg := load(t, "testdata/small.weir.yaml")
	cfg.Listen = "example.org:80"
	_, err := Bootstrap(cfg, Sockets{}, "")
	if err == nil || !strings.Contains(err.Error(), "must be an IP address") {
		t.Errorf("error %v", err)
	}
}
