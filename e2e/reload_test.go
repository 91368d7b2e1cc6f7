package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-gateway/weir/keyring"
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
	good := "keys:\n  - {id: new, hash: \"" + keyring.Hash(newKey) + "\"}\n"
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

// TestRevocation measures how soon a revoked key is refused.
func TestRevocation(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{})
	replace(t, filepath.Join(r.Dir, "keys.yaml"), "keys:\n  - {id: new, hash: \""+keyring.Hash(newKey)+"\"}\n")
	begin := time.Now()
	r.eventually("the key is refused", func() bool { return r.post(chat()).status == http.StatusUnauthorized })
	if took := time.Since(begin); took > time.Second {
		t.Errorf("a revoked key worked for %v, want at most 1 s", took)
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
