package redisstore

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-gateway/weir/ratelimit"
)

func mustNew(t *testing.T, s ratelimit.Spec) *ratelimit.Limit {
	t.Helper()
	l, err := ratelimit.New(s)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestPlan: one group for each hash, in order of the first charge in it, and one
// for each set; a calendar brings the period before and after, since the server's
// clock may be in either.
func TestPlan(t *testing.T) {
	tpm := mustNew(t, ratelimit.Spec{Name: "tpm", Unit: ratelimit.Tokens, Max: 1000, Window: time.Minute})
	day := mustNew(t, ratelimit.Spec{Name: "day", Unit: ratelimit.Requests, Max: 9, Calendar: ratelimit.Day, Shadow: true})
	slots := mustNew(t, ratelimit.Spec{Name: "slots", Unit: ratelimit.Concurrency, Max: 5})
	var p plan
	err := p.add([]ratelimit.Charge{
		{Limit: tpm, Scope: "key:a", Cost: 70},
		{Limit: slots, Scope: "key:a", Cost: 1},
		{Limit: tpm, Scope: "", Cost: 70},
		{Limit: day, Scope: "key:a", Cost: 1},
	}, time.Date(2026, time.March, 1, 10, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	want := plan{
		keys: []string{"{weir0}:w:key:a", "{weir0}:c:slots/concurrency/0s/0s:key:a", "{weir0}:w:"},
		args: []any{
			"w2", "tpm/tokens/1m0s/5s", "day/requests/day/UTC",
			"0 1000 70 0 5000000 12", "3 9 1 1 0 0 1772236800 1772323200 1772409600 1772496000",
			"c", "1 5 0",
			"w1", "tpm/tokens/1m0s/5s", "2 1000 70 0 5000000 12",
		},
	}
	if diff := cmp.Diff(want, p, cmp.AllowUnexported(plan{})); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
}

func TestPlanErrors(t *testing.T) {
	tpm := mustNew(t, ratelimit.Spec{Name: "tpm", Unit: ratelimit.Tokens, Max: 1000, Window: time.Minute})
	odd := mustNew(t, ratelimit.Spec{Name: "t\npm", Unit: ratelimit.Tokens, Max: 1000, Window: time.Minute})
	for want, c := range map[string]ratelimit.Charge{
		"charge 0: no limit":                         {Scope: "key:a"},
		`limit "tpm" of scope "key:\na"`:             {Limit: tpm, Scope: "key:\na"},
		`limit "t\npm" of scope "": want no control`: {Limit: odd},
	} {
		var p plan
		if err := p.add([]ratelimit.Charge{c}, time.Now()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("plan of %+v: error %v, want one with %q", c, err, want)
		}
	}
}
