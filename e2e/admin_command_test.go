package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCommandsOverTheNetwork asks a weir from a folder in which there is nothing but
// the token.
func TestCommandsOverTheNetwork(t *testing.T) {
	t.Parallel()
	r := pooled(t, fixture{extra: withAdmin(t), limits: "  - {name: rpm, per: [key], requests: 50000/m}\n"}, "", fine, fine)
	r.post(ask)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "admin.token"), adminToken+"\n")
	writeFile(t, filepath.Join(dir, "wrong.token"), "0123456789abcdef0123456789\n")
	run := func(token string, args ...string) (string, int) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), binary, append(args, "--admin", r.Admin, "--token-file", token)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			return string(out), exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		return string(out), 0
	}
	secret, _ := run("admin.token", "keys", "new", "--user", "eve", "-o", "json")
	_, id, _ := strings.Cut(secret, `"id":"`)
	id, _, _ = strings.Cut(id, `"`)
	for _, c := range []struct {
		args []string
		says string
		code int
	}{
		{[]string{"keys", "list"}, id + "  active  -      eve", 0},
		{[]string{"keys", "show", id}, "keys.yaml", 0},
		{[]string{"keys", "rotate", id, "--grace", "1h"}, "its old one works for 1h more", 0},
		{[]string{"keys", "update", id, "--disable"}, "disabled", 0},
		{[]string{"keys", "revoke", id}, "is revoked", 0},
		{[]string{"keys", "revoke", "nobody"}, `there is no such key: "nobody"`, 1},
		{[]string{"keys", "reload"}, "client keys are in force", 0},
		{[]string{"pool", "status"}, "healthy", 0},
		{[]string{"pool", "disable", "k0"}, "1 key will not be used any more", 0},
		{[]string{"pool", "status"}, "disabled", 0},
		{[]string{"pool", "enable", "k0"}, "1 key will be used again", 0},
		{[]string{"pool", "reset"}, "0 keys had failed", 0},
		{[]string{"pool", "disable", "nobody"}, "no pool has that key", 1},
		{[]string{"limits", "good"}, "rpm", 0},
		{[]string{"limits", "good", "-o", "json"}, `"used":1`, 0},
		{[]string{"limits", "reset", "good"}, "1 limits of key good count from zero again", 0},
		{[]string{"limits", "nobody"}, `no key has the id "nobody"`, 1},
	} {
		out, code := run("admin.token", c.args...)
		if code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("weir %v: exit status %d, %s", c.args, code, out)
		}
	}
	for _, args := range [][]string{{"keys", "list"}, {"pool"}, {"limits"}, {"keys", "reload"}, {"top"}} {
		if out, code := run("wrong.token", args...); code != 1 || !strings.Contains(out, "does not know the token in wrong.token") {
			t.Errorf("weir %v with a wrong token: exit status %d, %s", args, code, out)
		}
	}
	if out, code := run("admin.token", "top", "-n", "2", "--interval", "200ms"); code != 0 || strings.Count(out, "weir at "+r.Admin) != 2 || !strings.Contains(out, "2 of 2 usable") || strings.Contains(out, "\x1b") {
		t.Errorf("weir top: exit status %d, %s", code, out)
	}
	if out, code := run("admin.token", "top", "-n", "1", "-o", "json"); code != 0 || !json.Valid([]byte(out)) || !strings.Contains(out, `"rates":null`) {
		t.Errorf("weir top -o json: exit status %d, %s", code, out)
	}
	if status, body := r.asked("/admin/reset-failed-keys", "", adminToken); status != http.StatusOK || fmt.Sprint(body["changed"]) != "0" {
		t.Errorf("reset-failed-keys: %d %v", status, body)
	}
	for _, want := range []string{"upstream keys disable", "upstream keys enable", "upstream keys reset", "limits reset", "keys reloaded"} {
		if !strings.Contains(r.Log(), `"audit":"`+want+`","who":"token from 127.0.0.1:`) {
			t.Errorf("no audit line %q", want)
		}
	}
	if n := strings.Count(r.Log(), `"audit":"refused"`); n != 5 {
		t.Errorf("%d audit lines of refusals, want 5", n)
	}
}
