package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-gateway/weir/ratelimit/redistest"
	"github.com/weir-gateway/weir/simulator"
)

// TestPoolIsShared has one replica learn from the other's 429 and 401.
func TestPoolIsShared(t *testing.T) {
	t.Parallel()
	f := fixture{}
	sim := withPool(t, &f, "", always("fail=status:429,retry_after=20"), always("fail=status:401"), fine)
	redis := redistest.Start(t)
	a, b := pair(t, redis, f)
	if got := a.post(ask); got.status != http.StatusOK {
		t.Fatalf("status %d, %s", got.status, got.body)
	}
	begun := time.Now()
	b.eventually("the other replica knows", func() bool {
		return b.metric(`weir_upstream_keys_usable{upstream="pool"}`) == "1"
	})
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("it took %v", took)
	} else {
		t.Logf("the other replica knew after %v", took)
	}
	for range 20 {
		if got := b.post(ask); got.status != http.StatusOK {
			t.Errorf("status %d, %s", got.status, got.body)
		}
	}
	if uses := usesOf(sim); uses[last4(0)] != 1 || uses[last4(1)] != 1 {
		t.Errorf("uses %v: the second replica was to spare two keys", uses)
	}
	kept := everythingIn(t, redis)
	if !strings.Contains(kept, "uk_") {
		t.Errorf("Redis knows nothing of the keys: %q", kept)
	}
	for _, secret := range secrets {
		if strings.Contains(kept, secret) {
			t.Errorf("Redis keeps %q", secret)
		}
	}
}

// everythingIn is all that a Redis holds: names, types and values.
func everythingIn(t *testing.T, redis *redistest.Server) string {
	t.Helper()
	names, ok := redis.Do(t, "keys", "*").([]any)
	if !ok {
		t.Fatal("KEYS answers no list")
	}
	var all strings.Builder
	for _, name := range names {
		kind := fmt.Sprint(redis.Do(t, "type", name))
		read := map[string][]any{
			"string": {"get", name}, "hash": {"hgetall", name}, "zset": {"zrange", name, 0, -1, "withscores"},
		}[kind]
		if read == nil {
			t.Fatalf("Redis keeps a %s under %v: add it here", kind, name)
		}
		fmt.Fprintln(&all, name, kind, redis.Do(t, read...))
	}
	return all.String()
}

// TestPoolCommand looks at a pool as an operator does, and changes it.
func TestPoolCommand(t *testing.T) {
	t.Parallel()
	r := pooled(t, fixture{}, "", always("fail=status:401"), always("fail=status:429,retry_after=100"), fine)
	r.post(ask)
	out, err := r.weir("pool")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Log("\n" + out)
	for _, want := range []string{"UPSTREAM", "quarantined", "rejected", "cooling", "rate limited", "1m", "healthy", "100.0 %", "rejected (401)", last4(2)} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	for _, tt := range []struct {
		args []string
		says string
		ok   bool
	}{
		{[]string{"pool", "disable", "k2"}, "1 key will not be used any more", true},
		{[]string{"pool", "reset", "k1"}, "1 key had failed", true},
		{[]string{"pool", "reset"}, "1 key had failed", true},
		{[]string{"pool", "enable", "nobody"}, "no pool has that key", false},
		{[]string{"pool", "enable", "k2", "--upstream", "sim"}, "no pool has that key", false},
		{[]string{"pool", "disable"}, "expected", false},
	} {
		if out, err := r.weir(tt.args...); (err == nil) != tt.ok || !strings.Contains(out, tt.says) {
			t.Errorf("weir %v: %v, %s", tt.args, err, out)
		}
	}
	// k0 and k1 fail again, and k2 is disabled.
	if got := r.post(ask); got.status != http.StatusServiceUnavailable {
		t.Errorf("status %d, %s", got.status, got.body)
	}
	if out, err := r.weir("pool", "enable", "k2"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if got := r.post(ask); got.status != http.StatusOK {
		t.Errorf("status %d, %s", got.status, got.body)
	}
	if got := r.overSocket("ops.sock", "/pools"); !strings.Contains(got, `"usable":1`) {
		t.Errorf("the pools: %s", got)
	}
	if body := r.do(http.MethodGet, "/health", "").body; !strings.Contains(body, `{"name":"pool","status":"ok","keys":3,"usable":1}`) {
		t.Errorf("health: %s", body)
	}
}

// TestPoolFile changes the file of a pool's keys while it serves.
func TestPoolFile(t *testing.T) {
	t.Parallel()
	sim := simulator.New(simulator.Options{
		Models: []simulator.Model{{Name: "p"}}, Keys: map[string]func(int64) string{poolKey(0): fine, poolKey(1): fine},
	})
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "keys.txt")
	writeFile(t, file, "# the first\n"+poolKey(0)+" main\n\n"+poolKey(7)+"   # not valid\n")
	r := start(t, fixture{
		upstreams: fmt.Sprintf("  - {name: pool, url: %q, keys: {file: %q}}\n", server.URL+"/v1", file),
		models:    "  - {name: p, upstreams: [pool]}\n",
	})
	usable := func() string { return r.metric(`weir_upstream_keys_usable{upstream="pool"}`) }
	for range 4 {
		if got := r.post(ask); got.status != http.StatusOK {
			t.Errorf("status %d, %s", got.status, got.body)
		}
	}
	if usable() != "1" {
		t.Errorf("%s keys are usable, want 1", usable())
	}
	writeFile(t, file, poolKey(0)+" main\n"+poolKey(1)+" more\n")
	r.eventually("the new key is used", func() bool { return usable() == "2" })
	for i, text := range []string{"", "two words and = more\n", poolKey(1) + "\n" + poolKey(1) + "\n"} {
		writeFile(t, file, text)
		r.eventually("the mistake is told", func() bool { return strings.Count(r.Log(), "the last good ones stay in force") > i })
	}
	if usable() != "2" {
		t.Errorf("%s keys are usable, want the last good ones", usable())
	}
	stale := func() string { return r.metric(`weir_upstream_keys_stale{upstream="pool"}`) }
	if got := r.do(http.MethodGet, "/health", ""); got.status != http.StatusOK || !strings.Contains(got.body, `"key_file":{"status":"stale","place":"keys.txt:2"}`) || stale() != "1" {
		t.Errorf("stale %s, health %d %s", stale(), got.status, got.body)
	}
	if got := r.post(ask); got.status != http.StatusOK {
		t.Errorf("status %d, %s", got.status, got.body)
	}
	writeFile(t, file, poolKey(1)+"\n")
	r.eventually("the file is mended", func() bool { return stale() == "0" && usable() == "1" })
	if got := r.do(http.MethodGet, "/health", "").body; !strings.Contains(got, `"key_file":{"status":"ok"}`) {
		t.Errorf("health: %s", got)
	}
}
