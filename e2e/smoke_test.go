package e2e

import (
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/weir-gateway/weir/smoke"
)

// TestSmoke tries a site that is well, one whose upstream is down, and a wrong key.
func TestSmoke(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{model: "tokens=7", limits: "  - {name: rpm, per: [key], requests: 50000/m}\n"})
	try := func(key string, args ...string) (string, int) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), binary, append([]string{"smoke", r.URL, "-"}, args...)...)
		cmd.Stdin = strings.NewReader(key + "\n")
		out, err := cmd.CombinedOutput()
		code := 0
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			code = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		return string(out), code
	}
	out, code := try(goodKey)
	t.Log("\n" + out)
	if code != 0 || strings.Contains(out, "failed") || strings.Contains(out, "skipped") {
		t.Errorf("exit status %d", code)
	}
	for _, want := range []string{"context_length_exceeded", "invalid_api_key", "unknown_url", "model_not_found", "7 out", "good, 1 limits"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q", want)
		}
	}
	out, code = try(goodKey, "--model", "dead", "-o", "json")
	var got struct {
		OK     bool
		Checks []smoke.Result
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.OK || code != 1 {
		t.Errorf("an upstream that is down: exit status %d, %v, %s", code, err, out)
	}
	for _, c := range got.Checks {
		if wrong := c.Check == "answer" || c.Check == "stream"; wrong != (c.Outcome == smoke.Failed) {
			t.Errorf("%+v", c)
		}
	}
	if out, code := try("sk-wrong-0123456789"); code != 1 || !strings.Contains(out, "failed") || strings.Contains(out, "sk-wrong-0123456789") {
		t.Errorf("a wrong key: exit status %d, %s", code, out)
	}
	if out, code := try(""); code != 2 || !strings.Contains(out, "no key on its first line") {
		t.Errorf("no key: exit status %d, %s", code, out)
	}
	if _, err := r.weir("smoke", "127.0.0.1:1", "x"); err == nil {
		t.Error("an address that is no URL was taken")
	}
}
