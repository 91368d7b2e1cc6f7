package api

import (
	"net/http"
	"time"

	"github.com/weir-gateway/weir/gateway"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/openai"
)

// keyObject is what the holder of a key may know of it.
type keyObject struct {
	Object    string       `json:"object"` // key
	ID        string       `json:"id"`     // public
	Label     string       `json:"label"`
	User      string       `json:"user"`
	Team      string       `json:"team"`
	Plan      string       `json:"plan"`
	Models    []string     `json:"models"`    // names or patterns; empty: all
	Endpoints []string     `json:"endpoints"` // paths; empty: all
	Created   *time.Time   `json:"created_at"`
	Expires   *time.Time   `json:"expires_at"`        // null: never
	Previous  []time.Time  `json:"old_secrets_until"` // when secrets stop working that were replaced
	Limits    []limitState `json:"limits"`
}

// limitState is where a limit stands.
type limitState struct {
	Limit     string     `json:"limit"`
	Scope     string     `json:"scope"` // whom it counts, as errors name it: "key 7QK2MZP4, model m"
	Unit      string     `json:"unit"`
	Window    string     `json:"window,omitempty"` // 1m0s, or day, week, month; none of concurrency
	Max       int64      `json:"max"`
	Used      int64      `json:"used"`
	Remaining int64      `json:"remaining"`
	Resets    *time.Time `json:"resets_at"` // when nothing counts any more; null: nothing does, or no time is known
}

// key tells of the caller's key, and never its secret.
func (a *API) key(w http.ResponseWriter, r *http.Request, key *keyring.Key) *openai.Error {
	usage, err := a.opts.Limits(r.Context(), key)
	if err != nil {
		return &openai.Error{
			Status: http.StatusServiceUnavailable, Type: openai.TypeUnavailable, Code: openai.CodeOverloaded, RetryAfter: time.Second, Cause: err,
			Message: "The gateway cannot tell where limits stand at the moment. Try again shortly.",
		}
	}
	now := time.Now().UTC()
	k := keyObject{
		Object: "key", ID: key.ID, Label: key.Label, User: key.User, Team: key.Team, Plan: key.Plan,
		Models: append([]string{}, key.Models...), Endpoints: append([]string{}, key.Endpoints...),
		Created: timeOf(key.Created), Expires: timeOf(key.Expires), Previous: []time.Time{}, Limits: []limitState{},
	}
	for _, until := range key.Previous {
		if now.Before(until) {
			k.Previous = append(k.Previous, until.UTC())
		}
	}
	for _, u := range usage {
		k.Limits = append(k.Limits, stateOf(&u, now))
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, k)
	return nil
}

func stateOf(u *gateway.LimitUsage, now time.Time) limitState {
	s := limitState{Limit: u.Limit, Scope: u.Scope, Unit: u.Unit, Window: u.Window, Max: u.Max, Used: u.Used, Remaining: u.Remaining}
	if u.Reset > 0 {
		s.Resets = timeOf(now.Add(u.Reset).Truncate(time.Millisecond))
	}
	return s
}

// timeOf is nil for the zero time.
func timeOf(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(t.UTC())
}
