package keyring

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/watch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	replace(t, file, text)
	return file
}

func replace(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, files ...string) *Keyring {
	t.Helper()
	k, err := Open(config.Keys{Files: files}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestOlderJSONIsReadAsItIs(t *testing.T) {
	k := open(t, write(t, "api_keys.json", `{"keys": [
		{"key": "sk-alpha-000000000001", "user": "ann", "quota": 60000, "enabled": true, "note": "kept"},
		{"key": "sk-beta-0000000000002", "user": "bob", "quota": 0, "enabled": false}]}`))
	key, ok := k.Ring().Lookup("sk-alpha-000000000001", time.Now())
	if !ok {
		t.Fatal("the first key is not found")
	}
	want := &Key{ID: key.ID, User: "ann", File: key.File, Limits: []config.Limit{
		{Name: "quota", Per: []config.Scope{config.PerKey}, Unit: config.Tokens, Amount: 60000, Window: time.Minute},
	}}
	if diff := cmp.Diff(want, key); diff != "" {
		t.Errorf("key (-want +got):\n%s", diff)
	}
	if !regexp.MustCompile(`^k-[0-9a-f]{10}$`).MatchString(key.ID) {
		t.Errorf("id = %q, want one derived from the digest", key.ID)
	}
	bob, ok := k.Ring().Lookup("sk-beta-0000000000002", time.Now())
	if !ok || bob.Usable(time.Now()) {
		t.Errorf("the disabled key: found %v, usable %v; want found and not usable", ok, ok && bob.Usable(time.Now()))
	}
	if _, ok := k.Ring().Lookup("sk-alpha-00000000000", time.Now()); ok {
		t.Error("a prefix of a secret is found")
	}
	if same, ok := k.Ring().ByID(key.ID); !ok || same != key {
		t.Error("ByID does not find the key")
	}
}

func TestYAMLKey(t *testing.T) {
	secret, id := NewSecret()
	k := open(t, write(t, "keys.yaml", `keys:
  - id: `+id+`
    hash: `+Hash(secret)+`
    user: ann
    team: research
    plan: free
    models: [qwen3-32b, "meta/*"]
    endpoints: [/v1/chat/completions]
    cidrs: [10.0.0.0/8, "2001:db8::/32"]
    expires: 2026-01-01T00:00:00+01:00
    limits: [{name: key-qps, per: [key], requests: 5/s}]
`))
	key, ok := k.Ring().Lookup(secret, time.Now())
	if !ok {
		t.Fatal("not found")
	}
	for _, c := range []struct {
		what      string
		got, want bool
	}{
		{"named model", key.AllowsModel("qwen3-32b"), true},
		{"pattern", key.AllowsModel("meta/llama"), true},
		{"pattern does not cross a slash", key.AllowsModel("meta/llama/x"), false},
		{"other model", key.AllowsModel("gpt-4o"), false},
		{"endpoint", key.AllowsEndpoint("/v1/chat/completions"), true},
		{"other endpoint", key.AllowsEndpoint("/v1/completions"), false},
		{"address", key.AllowsAddr(netip.MustParseAddr("10.1.2.3")), true},
		{"address in IPv6 form", key.AllowsAddr(netip.MustParseAddr("::ffff:10.1.2.3")), true},
		{"other address", key.AllowsAddr(netip.MustParseAddr("11.1.2.3")), false},
		{"before it expires", key.Usable(time.Date(2025, 12, 31, 22, 59, 59, 0, time.UTC)), true},
		{"when it expires", key.Usable(time.Date(2025, 12, 31, 23, 0, 0, 0, time.UTC)), false},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.what, c.got, c.want)
		}
	}
}

func TestPepperedHash(t *testing.T) {
	pepper := write(t, "pepper", "0123456789abcdef\n")
	file := write(t, "keys.yaml", "keys: [{id: a, hash: \"hmac-sha256:e1d28cafb5d8c52c4d8b71bc7c35b3e1e4e1ee4ae1d1c4cf5ff3b31a1d0f6ff4\"}]\n")
	if _, err := Open(config.Keys{Files: []string{file}}, zerolog.Nop()); err == nil || !strings.Contains(err.Error(), "pepper_file") {
		t.Errorf("without pepper: %v, want an error that names pepper_file", err)
	}
	k, err := Open(config.Keys{Files: []string{file}, PepperFile: pepper}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	secret := "sk-peppered-0001"
	ring := k.Ring()
	d := pepperedDigest([]byte("0123456789abcdef"), secret)
	ring.peppered[d] = entry{key: &Key{ID: "b"}}
	if key, ok := ring.Lookup(secret, time.Now()); !ok || key.ID != "b" {
		t.Error("a peppered key is not found")
	}
	if _, ok := ring.Lookup("sk-peppered-0002", time.Now()); ok {
		t.Error("another secret is found")
	}
}

// folderOf is what stands before the names of files.
func folderOf(err error) string {
	if i := strings.Index(err.Error(), "keys."); i > 0 {
		return err.Error()[:i]
	}
	return "\x00"
}

// A mistake hides no other.
const (
	wantAll = `keys.yaml:2:17: keys[0].hash: must be sha256: or hmac-sha256: and 64 hexadecimal digits
keys.yaml:3:3: keys[1]: two keys have the id "a"
keys.yaml:3:17: keys[1].hash: must be sha256: or hmac-sha256: and 64 hexadecimal digits
keys.yaml:3:45: keys[1].previous[0].secret: must have at least 16 characters: what is shorter can be guessed; weir keys new makes a good one
keys.yaml:3:63: keys[1].previous[0].until: must be a time such as 2027-01-31T00:00:00Z (got "never")
keys.yaml:4:8: keys[2].id: must be text, not a list
keys.yaml:4:22: keys[2].enabled: must be true or false, without quotes (got "maybe")`
	wantAllJSON = `keys.json:2:43: keys[0].quota: must be a whole number of tokens a minute, without quotes (got "many")
keys.json:3:10: keys[1].key: must be text, in quotes
keys.json:4:2: keys[2]: key "k-782a873f91" has the same secret as key "k-782a873f91"
keys.json:4:45: keys[2].enabled: must be true or false, without quotes (got "yes")`
)

func TestBadFiles(t *testing.T) {
	good := "{id: a, secret: sk-canary-00000000001}"
	for name, c := range map[string]struct{ file, text, want string }{
		"empty":             {"keys.yaml", "", "holds no keys"},
		"empty JSON":        {"keys.json", `{"keys":[]}`, "holds no keys"},
		"truncated JSON":    {"keys.json", "{\"keys\":[\n {\"key\":\"sk-canary-1\"", "keys.json:2:21: unexpected end"},
		"wrong type":        {"keys.json", "{\"keys\":[\n {\"key\":7}]}", "keys.json:2:"},
		"no secret, JSON":   {"keys.json", `{"keys":[{"user":"x"}]}`, "keys[0]: needs a key"},
		"no secret":         {"keys.yaml", "keys: [{id: a}]", "exactly one of hash and secret"},
		"both":              {"keys.yaml", "keys: [{id: a, secret: sk-canary, hash: \"sha256:0000000000000000000000000000000000000000000000000000000000000000\"}]", "exactly one of hash and secret"},
		"bad hash":          {"keys.yaml", "keys: [{id: a, hash: md5:00}]", "must be sha256: or hmac-sha256:"},
		"twice one id":      {"keys.yaml", "keys: [" + good + ", {id: a, secret: sk-other}]", "two keys have the id \"a\""},
		"twice one secret":  {"keys.yaml", "keys: [" + good + ", {id: b, secret: sk-canary-00000000001}]", "same secret as key \"a\""},
		"bad range":         {"keys.yaml", "keys: [{id: a, secret: sk-canary, cidrs: [10.0.0.0]}]", "address range"},
		"bad time":          {"keys.yaml", "keys: [{id: a, secret: sk-canary, expires: tomorrow}]", "must be a time such as"},
		"unknown field":     {"keys.yaml", "keys: [{id: a, secret: sk-canary, role: admin}]", "keys[0].role: unknown field; there are: id, hash"},
		"short secret":      {"keys.yaml", "keys: [{id: a, secret: canary}]", "keys.yaml:1:24: keys[0].secret: must have at least 16 characters"},
		"all at once":       {"keys.yaml", "keys:\n- {id: a, hash: md5:00}\n- {id: a, hash: md5:01, previous: [{secret: sk-canary, until: never}]}\n- {id: [b], enabled: maybe}", wantAll},
		"all at once, JSON": {"keys.json", "{\"keys\": [\n\t{\"key\": \"sk-canary-0123456789\", \"quota\": \"many\"},\n\t{\"key\": 7, \"user\": 8},\n\t{\"key\": \"sk-canary-0123456789\", \"enabled\": \"yes\"}]}", wantAllJSON},
		"bad limit":         {"keys.yaml", "keys: [{id: a, secret: sk-canary, limits: [{name: x, requests: fast}]}]", "keys[0].limits[0].requests: must be a rate"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(config.Keys{Files: []string{write(t, c.file, c.text)}}, zerolog.Nop())
			if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), folderOf(err), ""), c.want) {
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestWatchKeepsTheLastGoodRing(t *testing.T) {
	file := write(t, "keys.yaml", "keys: [{id: a, secret: sk-first-0123456789}]")
	var log strings.Builder
	k, err := Open(config.Keys{Files: []string{file}}, zerolog.New(zerolog.SyncWriter(&log)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- k.Watch(ctx) }()
	eventually := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(5 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not within 5 s: %s", what)
			}
		}
	}
	has := func(secret string) bool { _, ok := k.Ring().Lookup(secret, time.Now()); return ok }

	replace(t, file, "keys: [{id: b, secret: sk-second-0123456789}]")
	eventually("the new key works and the old one does not", func() bool { return has("sk-second-0123456789") && !has("sk-first-0123456789") })
	replace(t, file, "keys: [{id: b")
	eventually("the mistake shows in the status", func() bool { return k.Status().Err != nil })
	if !has("sk-second-0123456789") {
		t.Error("a bad file took the last good key away")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	eventually("the missing file shows in the status", func() bool {
		err := k.Status().Err
		return err != nil && strings.Contains(err.Error(), "no such file")
	})
	if !has("sk-second-0123456789") {
		t.Error("a deleted file took the last good key away")
	}
	replace(t, file, "keys: [{id: c, secret: sk-third-0123456789}]")
	eventually("a good file again", func() bool { return has("sk-third-0123456789") && k.Status().Err == nil })
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if strings.Contains(log.String(), "sk-") {
		t.Errorf("the log shows a secret:\n%s", log.String())
	}
}

func TestNewSecret(t *testing.T) {
	form := regexp.MustCompile(`^sk-weir-([0-9A-Za-z]{8})-[0-9A-Za-z]{49}$`)
	seen := map[string]bool{}
	for range 100 {
		secret, id := NewSecret()
		m := form.FindStringSubmatch(secret)
		if m == nil || m[1] != id || seen[secret] {
			t.Fatalf("secret %q, id %q: want the form %v, new each time", secret, id, form)
		}
		seen[secret] = true
	}
}

func BenchmarkLookup(b *testing.B) {
	secret, id := NewSecret()
	r := NewRing(map[string]*Key{secret: {ID: id}})
	b.ReportAllocs()
	for b.Loop() {
		r.Lookup(secret, time.Now())
	}
}

// TestWatchIgnoresItsNeighbours writes another file of the same folder all the
// time, as a ledger is: keys are not read again for that, and no later either.
func TestWatchIgnoresItsNeighbours(t *testing.T) {
	file := write(t, "keys.yaml", "keys: [{id: a, secret: sk-first-0123456789}]")
	k, err := Open(config.Keys{Files: []string{file}}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = k.Watch(ctx) })
	time.Sleep(4 * watch.Settle) // what changed while it was opened
	neighbour, err := os.Create(filepath.Join(filepath.Dir(file), "usage.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	running.Go(func() {
		defer neighbour.Close()
		for ctx.Err() == nil {
			_, _ = neighbour.WriteString("line\n")
			time.Sleep(watch.Settle / 10)
		}
	})
	before := k.Status().Loaded
	time.Sleep(6 * watch.Settle)
	if after := k.Status().Loaded; !after.Equal(before) {
		t.Errorf("the keys were read again at %v for another file's sake", after)
	}
	replace(t, file, "keys: [{id: b, secret: sk-second-0123456789}]")
	begin := time.Now()
	for _, ok := k.Ring().Lookup("sk-second-0123456789", time.Now()); !ok && time.Since(begin) < 5*time.Second; _, ok = k.Ring().Lookup("sk-second-0123456789", time.Now()) {
		time.Sleep(5 * time.Millisecond)
	}
	if _, ok := k.Ring().Lookup("sk-first-0123456789", time.Now()); ok {
		t.Error("a revoked key works as long as another file is written")
	}
	stop()
	running.Wait()
}

// TestReloadIsNoted tells the log which keys have changed, and no secret.
func TestReloadIsNoted(t *testing.T) {
	file := write(t, "keys.yaml", "keys:\n  - {id: a, secret: sk-canary-0123456789-a}\n  - {id: b, secret: sk-canary-0123456789-b}\n  - {id: c, secret: sk-canary-0123456789-c}\n  - {id: d, secret: sk-canary-0123456789-d}\n")
	var log strings.Builder
	k, err := Open(config.Keys{Files: []string{file}}, zerolog.New(&log))
	if err != nil {
		t.Fatal(err)
	}
	if log.Len() > 0 {
		t.Errorf("at the start: %s", &log)
	}
	replace(t, file, "keys:\n  - {id: a, secret: sk-canary-0123456789-other}\n  - {id: c, secret: sk-canary-0123456789-c, revoked: '2026-01-01T00:00:00Z'}\n  - {id: d, secret: sk-canary-0123456789-d}\n  - {id: e, secret: sk-canary-0123456789-e}\n")
	if err := k.Reload(false); err != nil {
		t.Fatal(err)
	}
	want := `{"level":"info","audit":"keys changed","keys":4,"added":["e"],"removed":["b"],"revoked":["c"],"changed":["a"],"message":"client keys have changed"}` + "\n"
	if diff := cmp.Diff(want, log.String()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	if err := k.Reload(false); err != nil || log.String() != want {
		t.Errorf("nothing has changed: %v, %s", err, &log)
	}
}

// A secret of an older file that can be guessed goes on working, and is warned of, once.
func TestShortOlderSecretIsWarnedOf(t *testing.T) {
	file := write(t, "api_keys.json", `{"keys": [{"key": "canary", "user": "ann"}, {"key": "sk-older-0123456789", "user": "bob"}]}`)
	var log strings.Builder
	k, err := Open(config.Keys{Files: []string{file}}, zerolog.New(&log))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := k.Ring().Lookup("canary", time.Now()); !ok {
		t.Error("the key of an older gateway does not work")
	}
	if got := log.String(); strings.Count(got, "fewer than 16 characters") != 1 || strings.Contains(got, "canary") {
		t.Errorf("log %s, want one warning without the secret", got)
	}
	before := log.String()
	if err := k.Reload(false); err != nil || log.String() != before {
		t.Errorf("read again: %v, and the log has %s", err, strings.TrimPrefix(log.String(), before))
	}
}
