package main

import (
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/simulator"
)

// upstream is a simulator, and the host:port at which it answers.
func upstream(t *testing.T) (*simulator.Simulator, string) {
	t.Helper()
	s := simulator.New(simulator.Options{Models: []simulator.Model{{Name: modelName}}, KeepBodies: true})
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, strings.TrimPrefix(server.URL, "http://")
}

func startBench(t *testing.T) *bench {
	t.Helper()
	binary, err := envoy.Find(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{envoy: binary}
}

// try sends a plain request and a stream through a chain, whose answers drive
// checks.
func try(t *testing.T, c *chain) {
	t.Helper()
	t.Cleanup(func() {
		if err := c.stop(); err != nil {
			t.Error(err)
		}
	})
	one, many := one(0, 2), stream(shortest, 2, 1)
	for _, w := range []*workload{&one, &many} {
		got, err := drive(t.Context(), c.addr, w, w.count)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.total) != w.count || len(got.first) != w.count || got.wall <= 0 {
			t.Errorf("%s: timing %+v, want %d answers", w.name, got, w.count)
		}
	}
	if err := c.stop(); err != nil {
		t.Error(err)
	}
	c.stop = func() error { return nil }
}

func TestPlainEnvoy(t *testing.T) {
	t.Parallel()
	s, addr := upstream(t)
	dir := t.TempDir()
	if err := writeSite(dir, addr, "", "auto"); err != nil {
		t.Fatal(err)
	}
	c, err := startBench(t).startPlain(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	try(t, c)
	for _, e := range s.Ledger().Entries() {
		if want := callerKey[len(callerKey)-4:]; e.Auth != want {
			t.Errorf("the upstream got the key …%s, want …%s", e.Auth, want)
		}
	}
}

func TestNoopThroughEnvoy(t *testing.T) {
	t.Parallel()
	for name, serve := range map[string]func(*noop, int) server{"in a loop": (*noop).inLoop, "over grpc-go": (*noop).overGRPC} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			noopThroughEnvoy(t, serve)
		})
	}
}

func noopThroughEnvoy(t *testing.T, serve func(*noop, int) server) {
	t.Helper()
	s, addr := upstream(t)
	dir := t.TempDir()
	if err := writeSite(dir, addr, "", "auto"); err != nil {
		t.Fatal(err)
	}
	cfg, boot, err := generated(dir)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", filepath.Join(dir, "grpc.sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := serve(newNoop(upstreamName), int(cfg.Envoy.MaxRequestBytes))
	go server.Serve(listener) //nolint:errcheck // ends with Stop
	t.Cleanup(server.Stop)
	c, err := startBench(t).startEnvoy(t.Context(), boot)
	if err != nil {
		t.Fatal(err)
	}
	try(t, c)
	entries := s.Ledger().Entries()
	if len(entries) != 4 {
		t.Fatalf("%d requests reached the upstream, want 4", len(entries))
	}
	for _, e := range entries {
		if e.Auth != "" || e.Header.Get(envoy.HeaderKey) != "" {
			t.Errorf("the upstream got the key …%s, headers %v", e.Auth, e.Header)
		}
	}
}

func TestStripLeavesTheRouterAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := writeSite(dir, "127.0.0.1:1", "", "auto"); err != nil {
		t.Fatal(err)
	}
	_, boot, err := generated(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := strip(boot); err != nil {
		t.Fatal(err)
	}
	text, err := envoy.YAML(boot)
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{"ext_authz", "ext_proc", "header_mutation", "local_reply", "weir_api"} {
		if strings.Contains(string(text), gone) {
			t.Errorf("the plain bootstrap has %s", gone)
		}
	}
	for _, kept := range []string{"http.router", envoy.ClusterOf(upstreamName), "request_headers_timeout", "per_connection_buffer_limit_bytes"} {
		if !strings.Contains(string(text), kept) {
			t.Errorf("the plain bootstrap lacks %s", kept)
		}
	}
}

func TestTally(t *testing.T) {
	t.Parallel()
	var want tally
	plain, spent, wrong := one(1, 2), refused(limited, spentKey, 429, 10), refused(unknown, wrongKey, 401, 10)
	for _, w := range []*workload{&plain, &spent, &wrong} {
		want.add(w)
	}
	if want != (tally{ok: 3, refused: 11, output: 3 * plainTokens}) {
		t.Fatalf("tally %+v", want)
	}
	const ok = `{"outcome":"ok","tokens":{"output":32},"tokens_source":"exact"}` + "\n"
	const no = `{"outcome":"refused"}` + "\n"
	good := strings.Repeat(ok, 3) + strings.Repeat(no, 11)
	tests := []struct {
		name, text, err string
	}{
		{"as sent", good, ""},
		{"a line too few", strings.TrimPrefix(good, ok), "weir's ledger has"},
		{"other tokens", strings.Replace(good, "32", "31", 1), "weir's ledger has"},
		{"an estimate", strings.Replace(good, "exact", "estimated", 1), "must not be"},
		{"no JSON", "x\n", "a line of the ledger"},
	}
	for _, tt := range tests {
		file := filepath.Join(t.TempDir(), "usage.jsonl")
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := want.compare(file)
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.err)
		}
	}
}

func TestCheckFindsWrongAnswers(t *testing.T) {
	t.Parallel()
	plain, streamed := one(0, 1), stream(2, 1, 1)
	const events = "data: {}\n\ndata: {}\n\ndata: {}\n\ndata: [DONE]\n\n"
	tests := []struct {
		name string
		w    *workload
		r    reply
		ok   bool
	}{
		{"plain", &plain, reply{status: 200, body: []byte(`{"usage":{"completion_tokens":32,"x":1}}`)}, true},
		{"plain, fewer tokens", &plain, reply{status: 200, body: []byte(`{"usage":{"completion_tokens":3,"x":1}}`)}, false},
		{"refused", &plain, reply{status: 503}, false},
		{"stream", &streamed, reply{status: 200, body: []byte(events)}, true},
		{"stream without [DONE]", &streamed, reply{status: 200, body: []byte(strings.Replace(events, "[DONE]", "{}", 1))}, false},
		{"stream with one event more", &streamed, reply{status: 200, body: []byte("data: {}\n\n" + events)}, false},
	}
	for _, tt := range tests {
		if err := tt.w.check(&tt.r); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
