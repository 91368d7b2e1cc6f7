package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/ratelimit/redistest"
)

// TestOwnKey is what the holder of a key is told of it, with limits in memory and in
// Redis.
func TestOwnKey(t *testing.T) {
	t.Parallel()
	const secret = "sk-test-own-0123456789abcdef"
	for _, redis := range []string{"", redistest.Start(t).URL()} {
		r := start(t, fixture{
			redis: redis,
			keys: "  - {id: own, hash: \"" + keyring.Hash(secret) + "\", label: laptop, user: eve, team: t, plan: free, models: [m], expires: '2099-01-31T00:00:00Z', " +
				"limits: [{name: key-rpm, per: [key], requests: 2/m}], metadata: {note: internal-note}}\n",
			limits: "  - {name: key-rpm, per: [key], requests: 1000/m}\n  - {name: key-tpm, per: [key], tokens: 100000/m}\n  - {name: team-day, per: [team], tokens: 9000000/day}\n" +
				"  - {name: slots, per: [key, model], concurrency: 4}\n  - {name: site, concurrency: 500}\n  - {name: quiet, per: [key], requests: 1/m, shadow: true}\n  - {name: up, per: [key, upstream], requests: 500/m}\n",
			extra: "plans: {free: {limits: [{name: key-tpm, per: [key], tokens: 5000/m}]}}\n",
		})
		ask := func(secret string) reply {
			return r.do(http.MethodGet, "/v1/key", "", "Authorization", "Bearer "+secret)
		}
		for range 3 { // the third is refused
			r.post(chat(`"max_tokens":10`), "Authorization", "Bearer "+secret)
		}
		got := ask(secret)
		var key struct {
			Object, ID, Label, User, Team, Plan string
			Models, Endpoints                   []string
			Expires                             time.Time `json:"expires_at"`
			Limits                              []struct {
				Limit, Scope, Unit, Window string
				Max, Used, Remaining       int64
				Resets                     *time.Time `json:"resets_at"`
			}
		}
		if err := json.Unmarshal([]byte(got.body), &key); err != nil || got.status != http.StatusOK {
			t.Fatalf("status %d, %s: %v", got.status, got.body, err)
		}
		t.Log(got.body)
		if key.Object != "key" || key.ID != "own" || key.Label != "laptop" || key.User != "eve" || key.Team != "t" || key.Plan != "free" ||
			len(key.Models) != 1 || key.Endpoints == nil || key.Expires.Year() != 2099 {
			t.Errorf("key: %+v", key)
		}
		names := map[string]bool{}
		for _, l := range key.Limits {
			names[l.Limit] = true
			switch l.Limit {
			case "key-rpm":
				if l.Max != 2 || l.Used != 2 || l.Remaining != 0 || l.Resets == nil || time.Until(*l.Resets) > 2*time.Minute {
					t.Errorf("%+v", l)
				}
			case "key-tpm":
				if l.Max != 5000 || l.Used == 0 || l.Used+l.Remaining != l.Max {
					t.Errorf("%+v", l)
				}
			case "slots":
				if l.Scope != "key own, model m" || l.Used != 0 || l.Resets != nil {
					t.Errorf("%+v", l)
				}
			}
		}
		if len(key.Limits) != 4 || !names["team-day"] {
			t.Errorf("limits: %v; want those of the key and its team, and nothing of others", names)
		}
		for _, hidden := range []string{secret, "sha256", "internal-note"} {
			if strings.Contains(got.body, hidden) {
				t.Errorf("the answer shows %q", hidden)
			}
		}
		if got := ask("sk-wrong"); got.status != http.StatusUnauthorized {
			t.Errorf("a wrong key: status %d", got.status)
		}
		if got := r.do(http.MethodPost, "/v1/key", "{}"); got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") == "" {
			t.Errorf("POST: status %d", got.status)
		}
	}
}
