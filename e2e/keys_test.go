package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/keyring/keyfile"
)

const newKey = "sk-test-new-0123456789abcdef"

// TestKeyReload changes the key file under a running weir.
func TestKeyReload(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{})
	file := filepath.Join(r.Dir, "keys.yaml")
	status := func(key string) int { return r.post(chat(), "Authorization", key).status }
	if got := status(newKey); got != http.StatusUnauthorized {
		t.Fatalf("before: status %d", got)
	}
	good := "keys:\n  - {id: new, hash: \"" + keyring.Hash(newKey) + "\"}\n  - {id: other, hash: \"" + keyring.Hash(otherKey) + "\"}\n"
	replace(t, file, good)
	r.eventually("the new key works", func() bool { return status(newKey) == http.StatusOK })
	if got := status(goodKey); got != http.StatusUnauthorized {
		t.Errorf("a key that is no longer in the file: status %d", got)
	}
	for name, text := range map[string]string{
		"invalid":   "keys:\n  - {id: new, hash: nonsense}\n",
		"truncated": good[:len(good)-20],
		"empty":     "",
		"no keys":   "keys: []\n",
	} {
		replace(t, file, text)
		r.eventually(name+" is said to be stale", func() bool { return r.metric("weir_keys_stale") == "1" })
		if got := r.do(http.MethodGet, "/health", ""); got.status != http.StatusOK || !strings.Contains(got.body, `"stale"`) {
			t.Errorf("%s: health %d %s", name, got.status, got.body)
		}
		if got := status(newKey); got != http.StatusOK {
			t.Errorf("%s: the last good key: status %d", name, got)
		}
		replace(t, file, good)
		r.eventually(name+" is mended", func() bool { return r.metric("weir_keys_stale") == "0" })
	}
	if !strings.Contains(r.Log(), "keys.yaml:2:") {
		t.Errorf("the log does not name the line of the mistake:\n%s", r.Log())
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	r.eventually("a deleted file is said to be stale", func() bool { return r.metric("weir_keys_stale") == "1" })
	if got := status(newKey); got != http.StatusOK {
		t.Errorf("after the file was deleted: status %d", got)
	}
	writeFile(t, file, good)
	if err := r.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	r.eventually("SIGHUP read the file", func() bool { return r.metric("weir_keys_stale") == "0" })
}

// replace puts a file in another's place, as editors and deployments do.
func replace(t *testing.T, file, text string) {
	t.Helper()
	writeFile(t, file+".new", text)
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// TestKeysVanish cuts a key file at the end of a line, which is no mistake in its form.
func TestKeysVanish(t *testing.T) {
	t.Parallel()
	more := ""
	for i := range 6 {
		more += fmt.Sprintf("  - {id: k%d, secret: sk-test-vanish-000000000%d}\n", i, i)
	}
	r := start(t, fixture{keys: more})
	file := filepath.Join(r.Dir, "keys.yaml")
	whole := keysYAML(fixture{keys: more})
	lines := strings.SplitAfter(whole, "\n")
	status := func(i int) int {
		return r.do(http.MethodGet, "/v1/models", "", "Authorization", fmt.Sprintf("Bearer sk-test-vanish-000000000%d", i)).status
	}
	half := strings.Join(lines[:5], "") // 4 of 8 keys
	replace(t, file, half)
	r.eventually("half of the keys are gone", func() bool { return status(5) == http.StatusUnauthorized })
	replace(t, file, whole)
	r.eventually("they are back", func() bool { return status(5) == http.StatusOK })

	cut := strings.Join(lines[:4], "") // 3 of 8 keys
	refused := func() {
		t.Helper()
		replace(t, file, cut)
		r.eventually("it is said to be stale", func() bool { return r.metric("weir_keys_stale") == "1" })
		if got := r.do(http.MethodGet, "/health", ""); got.status != http.StatusOK || !strings.Contains(got.body, `"stale"`) {
			t.Errorf("health %d %s", got.status, got.body)
		}
		if got := status(5); got != http.StatusOK {
			t.Errorf("a key that is gone from the file: status %d", got)
		}
	}
	refused()
	if !strings.Contains(r.Log(), "keys.yaml: 5 of the 8 keys in use are gone, more than half") {
		t.Error("the log does not say why")
	}
	if err := r.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	if got := status(5); got != http.StatusOK {
		t.Errorf("after one SIGHUP: status %d", got)
	}
	if err := r.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	r.eventually("two mean it", func() bool { return status(5) == http.StatusUnauthorized && r.metric("weir_keys_stale") == "0" })

	replace(t, file, whole)
	r.eventually("they are back", func() bool { return status(5) == http.StatusOK })
	refused()
	if out, err := r.weir("keys", "reload"); err == nil || !strings.Contains(out, "5 of the 8 keys") {
		t.Errorf("reload without force: %v, %s", err, out)
	}
	if out, err := r.weir("keys", "reload", "--force"); err != nil || !strings.Contains(out, "3 client keys are in force") {
		t.Errorf("reload with force: %v, %s", err, out)
	}
	if got := status(5); got != http.StatusUnauthorized {
		t.Errorf("after a forced reload: status %d", got)
	}
}

// TestKeysBehindLinks swaps files as Kubernetes does in a mounted secret, and as
// deployments do whose file is a link to another folder.
func TestKeysBehindLinks(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{})
	mount, file := t.TempDir(), filepath.Join(r.Dir, "keys.yaml")
	version := func(name, more string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(mount, name), 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(mount, name, "keys.yaml"), keysYAML(fixture{keys: more}))
		temp := filepath.Join(mount, "..data_tmp")
		if err := errors.Join(os.Symlink(name, temp), os.Rename(temp, filepath.Join(mount, "..data"))); err != nil {
			t.Fatal(err)
		}
	}
	added := "  - {id: new, hash: \"" + keyring.Hash(newKey) + "\"}\n"
	works := func() bool { return r.post(chat(), "Authorization", newKey).status == http.StatusOK }
	version("..2026_1", "")
	if err := os.Symlink(filepath.Join("..data", "keys.yaml"), filepath.Join(mount, "keys.yaml")); err != nil {
		t.Fatal(err)
	}
	temp := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Join(mount, "keys.yaml"), temp); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, file); err != nil { // the folder of the site knows nothing of what follows
		t.Fatal(err)
	}
	for i := range 3 {
		begin := time.Now()
		version(fmt.Sprintf("..2026_%d_new", i), added)
		r.eventually("the new key works", works)
		if took := time.Since(begin); took > time.Second {
			t.Errorf("a swap was noticed after %v", took)
		}
		version(fmt.Sprintf("..2026_%d_old", i), "")
		r.eventually("the new key is gone", func() bool { return !works() })
	}
}

// TestRevocation measures how soon a revoked key is refused, by two replicas that share
// the key file.
func TestRevocation(t *testing.T) {
	t.Parallel()
	const n = 100
	more := strings.Builder{}
	secret := func(i int) string { return fmt.Sprintf("sk-test-revoked-%010d", i) }
	for i := range n {
		fmt.Fprintf(&more, "  - {id: k%d, hash: %q}\n", i, keyring.Hash(secret(i)))
	}
	one := start(t, fixture{keys: more.String()})
	file := filepath.Join(one.Dir, "keys.yaml")
	two := start(t, fixture{peer: one, keyFile: file})
	files := keyfile.Store{Files: config.Keys{Files: []string{file}}}
	took := make([]time.Duration, 0, n)
	for i := range n {
		key := "Bearer " + secret(i)
		for _, r := range []*rig{one, two} {
			if got := r.do(http.MethodGet, "/v1/models", "", "Authorization", key); got.status != http.StatusOK {
				t.Fatalf("key %d before: status %d", i, got.status)
			}
		}
		id, begin := fmt.Sprintf("k%d", i), time.Now()
		if i%10 == 0 {
			if out, err := one.weir("keys", "revoke", id); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			begin = time.Now() // it is written; the rest was the start of a program
		} else if err := files.Revoke(id, begin); err != nil { // as weir keys revoke does
			t.Fatal(err)
		}
		for _, r := range []*rig{one, two} {
			for r.do(http.MethodGet, "/v1/models", "", "Authorization", key).status != http.StatusUnauthorized {
				if time.Since(begin) > 10*time.Second {
					t.Fatalf("key %d works on after 10 s", i)
				}
			}
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	t.Logf("%d revocations were in force on two replicas after %v (median), %v (p99), %v (the slowest)", n, took[n/2], took[n*99/100-1], took[n-1])
	if p99 := took[n*99/100-1]; p99 > time.Second {
		t.Errorf("p99 is %v, want at most 1 s", p99)
	}
	for _, r := range []*rig{one, two} {
		if got := r.post(chat()); got.status != http.StatusOK {
			t.Errorf("another key: status %d", got.status)
		}
		if log := r.Log(); strings.Count(log, `"audit":"keys changed"`) < n/2 || !strings.Contains(log, `"revoked":["k42"`) {
			t.Error("the log does not tell of the revocations")
		}
	}
}

// TestOlderKeyFile reads the file of a FastAPI gateway as it is: quota is tokens
// a minute.
func TestOlderKeyFile(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{extra: "plans: {}"})
	older := `{"keys": [
  {"key": "sk-test-older-0123456789", "user": "carl", "quota": 500, "enabled": true},
  {"key": "sk-test-older-off-0123456789", "user": "dora", "quota": 500, "enabled": false}
]}`
	replace(t, filepath.Join(r.Dir, "keys.yaml"), older)
	r.eventually("the file is refused: all other keys are gone", func() bool { return r.metric("weir_keys_stale") == "1" })
	for range 2 { // which means it
		if err := r.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond)
	}
	r.eventually("the older key works", func() bool {
		return r.post(chat(`"max_tokens":10`), "Authorization", "sk-test-older-0123456789").status == http.StatusOK
	})
	got := r.post(chat(`"max_tokens":490`), "Authorization", "sk-test-older-0123456789")
	if e := got.errorObject(); got.status != http.StatusTooManyRequests || e.Weir.Limit != "quota" || e.Weir.Max != 500 {
		t.Errorf("beyond the quota: status %d, %s", got.status, got.body)
	}
	if got := r.post(chat(), "Authorization", "sk-test-older-off-0123456789"); got.status != http.StatusUnauthorized {
		t.Errorf("a key that is not enabled: status %d", got.status)
	}
	records := r.records()
	if len(records) > 0 && strings.HasPrefix(records[0].KeyID, "sk-") {
		t.Errorf("the ledger shows a secret as the id: %q", records[0].KeyID)
	}
}
