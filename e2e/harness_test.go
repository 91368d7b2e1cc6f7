package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-gateway/weir/e2e/site"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/ledger"
	"github.com/weir-gateway/weir/simulator"
)

// Secrets of the keys that every test site has. Whatever a test does, none of
// them may show up in a log.
const (
	goodKey  = "sk-test-good-0123456789abcdef"
	otherKey = "sk-test-other-0123456789abcdef"
)

// upstreamSecret is what the sites show their upstream.
const upstreamSecret = "sk-upstream-canary-0123456789"

// fixture says what a test site looks like.
type fixture struct {
	limits string // of weir.yaml, as a YAML list
	extra  string // more of weir.yaml
	// More upstreams and models of weir.yaml, as items of their lists.
	upstreams, models string
	keys              string // more of keys.yaml, as items of its list
	model             string // script of the model "m"
	idle              string // the upstream's idle timeout; "" is the default
	metering          string // of the upstream; "" is the default
	ledger            string // more of the ledger's options
	salt              string // the upstream's cache_salt; "" is none
	args              []string
	env               []string                       // of weir's
	killed            bool                           // the test ends weir or Envoy by force
	redis             string                         // URL of the store; "" counts in memory
	patience          string                         // timeout of the store; "" is weir's default
	peer              *rig                           // a replica whose upstream this one shares
	runDir            string                         // "" is a fresh one
	keyFile           string                         // "" is keys.yaml of the site's own
	prepare           func(t *testing.T, dir string) // files beside weir.yaml
	// upstream serves instead of a simulator.
	upstream http.Handler
}

// rig is a running site and its upstream.
type rig struct {
	*site.Site
	killed   bool
	runDir   string
	t        *testing.T
	mu       sync.Mutex
	refusals strings.Builder      // bodies of errors, guarded by mu
	traces   *collector           // nil if there are none
	sim      *simulator.Simulator // nil if the fixture has an upstream of its own
	pool     *simulator.Simulator // behind a pool of keys, if there is one
}

// start runs a site for the length of a test.
func start(t *testing.T, f fixture) *rig {
	t.Helper()
	r := &rig{t: t, killed: f.killed}
	handler := f.upstream
	if f.peer != nil {
		r.sim = f.peer.sim
		handler = r.sim
	}
	if handler == nil {
		script, err := simulator.ParseScript(f.model)
		if err != nil {
			t.Fatal(err)
		}
		r.sim = simulator.New(simulator.Options{
			Models: []simulator.Model{{Name: "m", Script: script}}, Key: upstreamSecret, KeepBodies: true,
		})
		handler = r.sim
	}
	if f.runDir == "" {
		f.runDir = shortDir(t)
	}
	upstream := httptest.NewServer(handler)
	t.Cleanup(upstream.Close)
	dir := t.TempDir()
	if f.prepare != nil {
		f.prepare(t, dir)
	}
	writeFile(t, filepath.Join(dir, "weir.yaml"), weirYAML(f, upstream.URL))
	writeFile(t, filepath.Join(dir, "keys.yaml"), keysYAML(f))
	s, err := site.Start(t.Context(), binary, dir, f.args, f.env...)
	if err != nil {
		t.Fatal(err)
	}
	r.Site, r.runDir = s, f.runDir
	t.Cleanup(r.close)
	return r
}

func weirYAML(f fixture, upstream string) string {
	limits := ""
	if f.redis != "" {
		limits = fmt.Sprintf("store: {redis: {url: %q, timeout: %s}}\n", f.redis, cmp.Or(f.patience, "20ms"))
	}
	if f.limits != "" {
		limits += "limits:\n" + f.limits
	}
	timeouts := ""
	if f.idle != "" {
		timeouts = ", timeouts: {idle: " + f.idle + "}"
	}
	if f.metering != "" {
		timeouts += ", metering: " + f.metering
	}
	if f.salt != "" {
		timeouts += ", cache_salt: " + f.salt
	}
	return fmt.Sprintf(`listen: 127.0.0.1:0
run_dir: %s
metrics: {listen: 127.0.0.1:0}
keys: {files: [%s]}
ledger: {file: usage.jsonl%s}
upstreams:
  - {name: sim, url: %q, key: %q%s}
  - {name: dead, url: "http://127.0.0.1:1/v1"}
%smodels:
  - {name: m, aliases: [alias], upstreams: [sim], context: 100000}
  - {name: dead, upstreams: [dead]}
%s%s
%s
`, f.runDir, cmp.Or(f.keyFile, "keys.yaml"), f.ledger, upstream+"/v1", upstreamSecret, timeouts, f.upstreams, f.models, limits, f.extra)
}

func keysYAML(f fixture) string {
	return fmt.Sprintf("keys:\n  - {id: good, user: ann, hash: %q}\n  - {id: other, user: bob, hash: %q}\n%s",
		keyring.Hash(goodKey), keyring.Hash(otherKey), f.keys)
}

// shortDir is a folder whose path is short enough for sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "weir-run-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func writeFile(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// secrets are what nothing may show.
var secrets = []string{goodKey, otherKey, adminToken, "sk-upstream-canary-", promptCanary}

// close looks for what must never be: races, panics, and secrets or prompts in
// anything that weir or Envoy tell or keep.
func (r *rig) close() {
	told := map[string]string{}
	ended := r.killed
	select {
	case <-r.Done():
		ended = true
	default:
	}
	if !ended {
		told["Envoy's configuration"] = r.overSocket("envoy.sock", "/config_dump?include_eds")
		told["the pools"] = r.overSocket("ops.sock", "/pools")
		told["the limits"] = r.overSocket("ops.sock", "/limits")
		for _, method := range []string{"Keys/List", "Pools/Status", "Limits/Usage", "Exchanges/List", "Config/Show"} {
			service, name, _ := strings.Cut(method, "/")
			told["the admin API's "+method] = r.overSocket("ops.sock", "/weir.admin.v1."+service+"Service/"+name, "{}")
		}
		if r.Metrics != "" {
			if resp, err := http.Get(r.Metrics); err != nil {
				r.t.Error(err)
			} else {
				told["metrics"], _ = readAll(resp)
				resp.Body.Close()
			}
			told["Envoy's metrics"] = r.overSocket("envoy.sock", "/stats/prometheus")
		}
	}
	if err := r.Stop(); err != nil && !r.killed {
		r.t.Error(err)
	}
	told["weir's output"] = r.Log() + r.Stdout()
	if text, err := os.ReadFile(filepath.Join(r.Dir, "usage.jsonl")); err == nil {
		told["the ledger"] = string(text)
	}
	r.mu.Lock()
	told["errors to clients"] = r.refusals.String()
	r.mu.Unlock()
	if r.traces != nil {
		told["traces"] = r.traces.all()
	}
	for what, text := range told {
		if text == "" && what != "errors to clients" && what != "the ledger" {
			r.t.Errorf("%s could not be looked at", what)
		}
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				r.t.Errorf("%s shows %q", what, secret)
			}
		}
	}
	for _, trouble := range []string{"DATA RACE", "panic", "a bug in weir"} {
		if strings.Contains(told["weir's output"], trouble) {
			r.t.Errorf("weir's output says %q:\n%s", trouble, told["weir's output"])
		}
	}
}

// overSocket gets a page from one of the sockets of the site, or posts JSON there.
func (r *rig) overSocket(name, path string, posted ...string) string {
	r.t.Helper()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", filepath.Join(r.runDir, name))
		},
	}}
	defer client.CloseIdleConnections()
	ask := func() (*http.Response, error) { return client.Get("http://site" + path) }
	if posted != nil {
		ask = func() (*http.Response, error) {
			return client.Post("http://site"+path, "application/json", strings.NewReader(posted[0]))
		}
	}
	resp, err := ask()
	if err != nil {
		r.t.Errorf("ask for %s from %s: %v", path, name, err)
		return ""
	}
	defer resp.Body.Close()
	text, err := readAll(resp)
	if err != nil {
		r.t.Error(err)
	}
	return text
}

// promptCanary is in the prompts of many tests.
const promptCanary = "xylophone-canary"

// chat is the body of a chat request, with more members.
func chat(members ...string) string {
	body := `{"model":"m","messages":[{"role":"user","content":"say something about ` + promptCanary + ` please"}]`
	for _, m := range members {
		body += "," + m
	}
	return body + "}"
}

// reply is an answer as a client has it.
type reply struct {
	status int
	header http.Header
	body   string
}

// errorObject is the error of a reply, or what is there instead of one.
func (r reply) errorObject() (e struct {
	Message     string
	Type        string
	Param, Code *string
	Weir        struct {
		Limit, Scope string
		Used, Max    int64
		RetryAfter   int64 `json:"retry_after_ms"`
	}
},
) {
	var envelope struct{ Error json.RawMessage }
	if json.Unmarshal([]byte(r.body), &envelope) != nil || json.Unmarshal(envelope.Error, &e) != nil {
		e.Message = "not an error in OpenAI's shape: " + r.body
	}
	return e
}

func (r reply) code() string {
	if c := r.errorObject().Code; c != nil {
		return *c
	}
	return ""
}

// post sends a chat request with the good key, and more headers as pairs.
func (r *rig) post(body string, headers ...string) reply {
	r.t.Helper()
	return r.do(http.MethodPost, "/v1/chat/completions", body, headers...)
}

// do sends a request and reads the whole answer. Without an Authorization among
// the headers it shows the good key.
func (r *rig) do(method, path, body string, headers ...string) reply {
	r.t.Helper()
	rep, err := r.try(r.t.Context(), method, path, body, headers...)
	if err != nil {
		r.t.Fatal(err)
	}
	return rep
}

// try is do for what may fail.
func (r *rig) try(ctx context.Context, method, path, body string, headers ...string) (reply, error) {
	resp, err := r.send(ctx, method, path, body, headers...)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if resp.StatusCode >= 400 {
		r.mu.Lock()
		r.refusals.Write(text)
		r.mu.Unlock()
	}
	return reply{resp.StatusCode, resp.Header, string(text)}, err
}

// send sends a request; the caller closes the body.
func (r *rig) send(ctx context.Context, method, path, body string, headers ...string) (*http.Response, error) {
	return r.sendTo(ctx, r.URL, method, path, body, headers...)
}

// sendTo sends a request to whoever stands before the site.
func (r *rig) sendTo(ctx context.Context, url, method, path, body string, headers ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+goodKey)
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i+1] == "" {
			req.Header.Del(headers[i])
			continue
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	return http.DefaultClient.Do(req)
}

// settled waits until the ledger has n lines, and returns them.
func (r *rig) settled(n int) []ledger.Record {
	r.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		records := r.records()
		if len(records) >= n || time.Now().After(deadline) {
			if len(records) != n {
				r.t.Fatalf("the ledger has %d lines, want %d", len(records), n)
			}
			return records
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// records are the ledger's lines by now.
func (r *rig) records() (records []ledger.Record) {
	r.t.Helper()
	err := site.Lines(filepath.Join(r.Dir, "usage.jsonl"), func(line []byte) error {
		var rec ledger.Record
		if err := json.Unmarshal(line, &rec); err != nil {
			return fmt.Errorf("ledger line %s: %w", line, err)
		}
		records = append(records, rec)
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return records
}

// metric is the value of a metric, by its name and labels as they are printed.
func (r *rig) metric(name string) string {
	r.t.Helper()
	for line := range strings.Lines(r.scrape()) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// scrape is all metrics as they are printed.
func (r *rig) scrape() string {
	r.t.Helper()
	resp, err := http.Get(r.Metrics)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

// eventually waits until a condition holds.
func (r *rig) eventually(what string, holds func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// readAll reads the rest of an answer.
func readAll(resp *http.Response) (string, error) {
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}
