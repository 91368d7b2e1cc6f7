package e2e

import (
	"encoding/json"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/weir-gateway/weir/ratelimit/redistest"
)

// weir runs a command in the site's folder and returns what it prints.
func (r *rig) weir(args ...string) (string, error) {
	cmd := exec.CommandContext(r.t.Context(), binary, args...)
	cmd.Dir = r.Dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestLimitsCommand looks at limits and resets them, in memory and in Redis.
func TestLimitsCommand(t *testing.T) {
	t.Parallel()
	for _, redis := range []string{"", redistest.Start(t).URL()} {
		r := start(t, fixture{redis: redis, limits: `
  - {name: key-rph, per: [key], requests: 3/h}
  - {name: model-tpd, per: [key, model], tokens: 100000/day, timezone: Europe/Berlin}
  - {name: slots, concurrency: 7}
  - {name: trial, per: [user], requests: 1/h, shadow: true}
`})
		for range 3 {
			if got := r.post(chat()); got.status != http.StatusOK {
				t.Fatalf("status %d, %s", got.status, got.body)
			}
		}
		if got := r.post(chat()); got.status != http.StatusTooManyRequests {
			t.Fatalf("the fourth: status %d", got.status)
		}
		out, err := r.weir("limits", "good")
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, want := range []string{"LIMIT", "key-rph", "model-tpd", "key good, model m", "the whole site", "trial (shadow)", "day"} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in:\n%s", want, out)
			}
		}
		if got := usedOf(t, r, "key-rph"); got != 3 {
			t.Errorf("%d requests are used, want 3", got)
		}
		if out, err := r.weir("limits", "reset", "good", "--limit", "key-rph"); err != nil || !strings.Contains(out, "1 limits of key good count from zero") {
			t.Errorf("%v: %s", err, out)
		}
		if got := usedOf(t, r, "key-rph"); got != 0 {
			t.Errorf("%d requests are used after the reset", got)
		}
		if got := r.post(chat()); got.status != http.StatusOK {
			t.Errorf("after the reset: status %d, %s", got.status, got.body)
		}
		for _, args := range [][]string{{"limits", "nobody"}, {"limits", "reset", "good", "--limit", "slots"}, {"limits", "reset", "nobody"}} {
			if out, err := r.weir(args...); err == nil || !strings.Contains(out, "weir: ") {
				t.Errorf("weir %v: %v, %s", args, err, out)
			}
		}
		if got := r.metric(`weir_limit_shadow_refusals_total{limit="trial"}`); got == "" || got == "0" {
			t.Errorf("the shadow limit would have refused, and it is counted %q times", got)
		}
	}
}

// usedOf is how much of a limit of the good key is used.
func usedOf(t *testing.T, r *rig, limit string) int64 {
	t.Helper()
	out, err := r.weir("limits", "good", "-o", "json")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var answer struct {
		Limits []struct {
			Limit string
			Used  int64
		}
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, l := range answer.Limits {
		if l.Limit == limit {
			return l.Used
		}
	}
	t.Fatalf("no limit %s in %s", limit, out)
	return 0
}

// TestLimitsCommandWithoutWeir says what to do when nobody answers.
func TestLimitsCommandWithoutWeir(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), binary, "limits", "--run-dir", shortDir(t))
	cmd.Dir = t.TempDir()
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "no weir answers at") {
		t.Errorf("%v: %s", err, out)
	}
}
