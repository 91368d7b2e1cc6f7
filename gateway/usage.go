package gateway

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/upstream"
)

// peekBatch bounds how many limits the store is asked about at a time.
const peekBatch = 200

// LimitUsage is where one limit stands.
type LimitUsage struct {
	Limit          string        `json:"limit"`
	Scope          string        `json:"scope"`         // for people: "key k_7f3, model m"
	Key            string        `json:"key,omitempty"` // id of the only key that is counted there
	Unit           string        `json:"unit"`
	Window         string        `json:"window,omitempty"` // 1m0s, or a period of the calendar
	Used           int64         `json:"used"`             // in the limit's unit
	Max            int64         `json:"max"`
	Remaining      int64         `json:"remaining"`
	Reset          time.Duration `json:"-"`        // until nothing counts any more; 0 of slots, of which that is not known
	ResetMS        int64         `json:"reset_ms"` // the same in milliseconds
	Shadow         bool          `json:"shadow,omitempty"`
	OnStoreFailure string        `json:"on_store_failure"`
}

// LimitUsage tells where the limits of a key stand; of all keys, where anything is
// used, if the id is empty.
func (g *Gateway) LimitUsage(ctx context.Context, keyID string) ([]LimitUsage, error) {
	places, err := g.places(keyID)
	if err != nil {
		return nil, err
	}
	states, err := g.peek(ctx, places)
	if err != nil {
		return nil, err
	}
	var all []LimitUsage
	for i, p := range places {
		if keyID != "" || states[i].Used > 0 || p.charge.Scope == "" {
			all = append(all, p.usage(states[i]))
		}
	}
	return all, nil
}

// KeyUsage tells a key's holder where its limits stand: those that count the key, its
// user or its team and may refuse, and nothing of what others use.
func (g *Gateway) KeyUsage(ctx context.Context, key *keyring.Key) ([]LimitUsage, error) {
	places, err := g.placesOf(g.keys.Ring(), []*keyring.Key{key})
	if err != nil {
		return nil, err
	}
	places = slices.DeleteFunc(places, func(p counted) bool {
		return p.rule.at != anywhere || p.charge.Limit.Shadow || !ofHolder(p.charge.Scope)
	})
	states, err := g.peek(ctx, places)
	if err != nil {
		return nil, err
	}
	all := make([]LimitUsage, len(places))
	for i, p := range places {
		all[i] = p.usage(states[i])
	}
	return all, nil
}

// ofHolder tells whether a scope is one that the holder of a key knows of.
func ofHolder(scope string) bool {
	return slices.ContainsFunc(strings.Split(scope, "/"), func(part string) bool {
		dimension, _, _ := strings.Cut(part, ":")
		return dimension == "key" || dimension == "user" || dimension == "team"
	})
}

// peek asks the store where limits stand.
func (g *Gateway) peek(ctx context.Context, places []counted) ([]ratelimit.State, error) {
	var all []ratelimit.State
	for batch := range slices.Chunk(places, peekBatch) {
		charges := make([]ratelimit.Charge, len(batch))
		for i, p := range batch {
			charges[i] = p.charge
		}
		states, err := g.limits.Peek(ctx, charges)
		if err != nil {
			return nil, fmt.Errorf("ask the limit store: %w", err)
		}
		all = append(all, states...)
	}
	return all, nil
}

// ResetLimits forgets what windows have counted for a key: of one limit, or of all
// if its name is empty. Slots are not reset: they tell what runs. It answers how
// many limits it reset.
func (g *Gateway) ResetLimits(ctx context.Context, keyID, limit string) (int, error) {
	places, err := g.places(keyID)
	if err != nil {
		return 0, err
	}
	var charges []ratelimit.Charge
	for _, p := range places {
		// What others share is not one key's to reset.
		if p.charge.Limit.Unit != ratelimit.Concurrency && p.own != "" && (limit == "" || p.charge.Limit.Name == limit) {
			charges = append(charges, p.charge)
		}
	}
	if len(charges) == 0 {
		return 0, fmt.Errorf("key %q has no limit %q of its own that counts over a window", keyID, limit)
	}
	if err := g.limits.Reset(ctx, charges); err != nil {
		return 0, fmt.Errorf("reset in the limit store: %w", err)
	}
	g.denials.forget()
	return len(charges), nil
}

// counted is a limit in one scope.
type counted struct {
	charge ratelimit.Charge
	rule   *rule
	own    string // id of the only key that is counted there; "": there may be others
}

func (c *counted) usage(s ratelimit.State) LimitUsage {
	l := c.charge.Limit
	u := LimitUsage{
		Limit: l.Name, Scope: scopeName(c.charge.Scope), Key: c.own, Unit: unitName(l.Unit), Used: s.Used, Max: l.Max,
		Remaining: s.Remaining, Shadow: l.Shadow, OnStoreFailure: c.rule.failure.String(),
	}
	if l.Unit != ratelimit.Concurrency { // a slot is free when its request ends: nobody knows
		u.Window, u.Reset, u.ResetMS = l.Span(), s.Reset, milliseconds(s.Reset)
	}
	return u
}

// places are the limits of a key, or of all keys, each in its scope.
func (g *Gateway) places(keyID string) ([]counted, error) {
	ring := g.keys.Ring()
	var keys []*keyring.Key
	if keyID == "" {
		keys = ring.Keys()
	} else {
		key, ok := ring.ByID(keyID)
		if !ok {
			return nil, fmt.Errorf("no key has the id %q", keyID)
		}
		keys = []*keyring.Key{key}
	}
	return g.placesOf(ring, keys)
}

// placesOf are the limits of those keys, each in its scope.
func (g *Gateway) placesOf(ring *keyring.Ring, keys []*keyring.Key) ([]counted, error) {
	seen := map[place]bool{}
	var all []counted
	for _, key := range keys {
		limits, err := g.rulebook.Load().policy.rules(ring, key)
		if err != nil {
			return nil, err
		}
		for _, r := range slices.Concat(limits.exchange, limits.attempt) {
			for _, scope := range g.scopes(&r, key) {
				at := place{r.limit.ID(), scope}
				if !seen[at] {
					seen[at] = true
					c := counted{charge: ratelimit.Charge{Limit: r.limit, Scope: scope}, rule: &r}
					if slices.Contains(strings.Split(scope, "/"), "key:"+escape(key.ID)) {
						c.own = key.ID
					}
					all = append(all, c)
				}
			}
		}
	}
	return all, nil
}

// scopes are where a rule counts a key: one, or one for each model it may use and
// each place where that is served.
func (g *Gateway) scopes(r *rule, key *keyring.Key) []string {
	models := []string{""}
	if r.model {
		models = nil
		for _, m := range g.models.Table().Models() {
			if ModelAllowed(key, m) {
				models = append(models, m.Name)
			}
		}
	}
	var all []string
	for _, model := range models {
		if r.at == anywhere {
			all = append(all, r.scopeFor(model))
			continue
		}
		for _, s := range g.models.Servers() {
			for _, id := range r.keysOf(s) {
				all = append(all, r.scopeAt(model, s.Name, id))
			}
		}
	}
	return all
}

// keysOf are the ids of an upstream's keys that the rule tells apart.
func (r *rule) keysOf(s *upstream.Server) []string {
	if r.at == atUpstream || s.Pool == nil {
		return []string{""}
	}
	var ids []string
	for _, k := range s.Pool.Status() {
		ids = append(ids, k.ID)
	}
	return ids
}
