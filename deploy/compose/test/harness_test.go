//go:build compose

package composetest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/simulator"
)

const (
	base = "http://127.0.0.1:8080"
	// More client keys: one that may do much, one that may do little.
	busyKey    = "sk-compose-busy-0123456789abcdef"
	limitedKey = "sk-compose-limited-0123456789abcdef"
)

// site is the running stack.
type site struct {
	t        *testing.T
	dir      string
	firstKey string
	profiles string
	secrets  *[]string // that were made while it ran
}

// open prepares the site's folder; nothing runs yet.
func open(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, dir: os.Getenv("SITE"), firstKey: os.Getenv("KEY"), profiles: "demo", secrets: new([]string)}
	if s.dir == "" || s.firstKey == "" {
		t.Fatal("SITE and KEY are not set: run deploy/compose/test/run")
	}
	f, err := os.OpenFile(filepath.Join(s.dir, "deploy/compose/weir/keys.yaml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(f, `  - {id: busy, hash: %q, limits: [{name: key-qps, per: [key], requests: 100000/s}, {name: key-tpm, per: [key], tokens: 100000000/m}, {name: key-slots, per: [key], concurrency: 400}]}
  - {id: limited, hash: %q, limits: [{name: key-rpd, per: [key], requests: 5/day}]}
`, keyring.Hash(busyKey), keyring.Hash(limitedKey))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return s
}

// command runs docker and returns what it prints, on both outputs.
func (s *site) command(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "COMPOSE_PROFILES="+s.profiles, "WEIR_IMAGE=weir:test", "COMPOSE_PROGRESS=quiet", "COMPOSE_ANSI=never")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// docker runs a command that must not fail.
func (s *site) docker(args ...string) string {
	s.t.Helper()
	out, err := s.command(args...)
	if err != nil {
		s.t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (s *site) compose(args ...string) string {
	s.t.Helper()
	return s.docker(append([]string{"compose"}, args...)...)
}

// container is what docker inspect tells of one.
type container struct {
	Name   string
	Config struct{ User string }
	State  struct {
		Pid    int
		Health struct{ Status string }
	}
	HostConfig struct {
		ReadonlyRootfs bool
		CapDrop        []string
		CapAdd         []string
		SecurityOpt    []string
		Privileged     bool
		Memory         int64
		NanoCpus       int64
		PidsLimit      int64
		RestartPolicy  struct{ Name string }
		PortBindings   map[string][]struct{ HostIP, HostPort string }
	}
	NetworkSettings struct {
		Networks map[string]struct{ IPAddress string }
	}
}

// inspect looks at the container of a service.
func (s *site) inspect(service string) container {
	s.t.Helper()
	var list []container
	if err := json.Unmarshal([]byte(s.docker("inspect", "weir-"+service+"-1")), &list); err != nil || len(list) != 1 {
		s.t.Fatalf("docker inspect %s: %v, %d containers", service, err, len(list))
	}
	return list[0]
}

// simulated is the simulator's ledger. It is asked at the container's own address.
func (s *site) simulated() map[string]simulator.Entry {
	s.t.Helper()
	url := "http://" + s.inspect("simulator").NetworkSettings.Networks["weir_upstream"].IPAddress + ":8000/_ledger?settle=5s"
	resp, err := http.Get(url)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var snapshot simulator.Snapshot
	if err := json.NewDecoder(resp.Body).Decode(&snapshot); err != nil {
		s.t.Fatal(err)
	}
	entries := map[string]simulator.Entry{}
	for _, e := range snapshot.Entries {
		if strings.HasPrefix(e.Path, "/v1/chat") {
			entries[e.RequestID] = e
		}
	}
	return entries
}

// answer is how a request ended.
type answer struct {
	began, ended time.Time
	id           string // of the request; "" if it got none
	status       int    // 0: none came
	header       http.Header
	body         string
	err          error // of the connection
}

// whole tells that a streamed answer came to its end.
func (a answer) whole() bool {
	return a.err == nil && a.status == http.StatusOK && strings.HasSuffix(a.body, "data: [DONE]\n\n")
}

func (a answer) String() string {
	return fmt.Sprintf("status %d, error %v, body ending in %q", a.status, a.err, a.body[max(0, len(a.body)-200):])
}

// chat sends a chat request. script overrides how the simulator answers.
func chat(ctx context.Context, key, script string, stream bool) (a answer) {
	a.began = time.Now()
	defer func() { a.ended = time.Now() }()
	body := fmt.Sprintf(`{"model":"demo","stream":%v,"messages":[{"role":"user","content":"hello"}]}`, stream)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		a.err = err
		return a
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Simulate", script)
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := client.Do(req)
	if err != nil {
		a.err = err
		return a
	}
	defer resp.Body.Close()
	a.status, a.header, a.id = resp.StatusCode, resp.Header, resp.Header.Get("X-Request-Id")
	text, err := io.ReadAll(resp.Body)
	a.body, a.err = string(text), err
	return a
}

// client never sends a request twice by itself.
var client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 100, IdleConnTimeout: 2 * time.Second}}

// eventually waits until a condition holds.
func (s *site) eventually(what string, patience time.Duration, holds func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// health is what weir says of itself, through Envoy.
func (s *site) health() (text string, status int) {
	resp, err := client.Get(base + "/health")
	if err != nil {
		return err.Error(), 0
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return string(body), resp.StatusCode
}
