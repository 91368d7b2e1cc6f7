package gateway

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/ratelimit/failover"
)

// policy tells which limits a key has.
type policy struct {
	defaults []config.Limit
	plans    map[string][]config.Limit
	current  *atomic.Pointer[keyRules]
}

// keyRules are the rules of the keys of one ring, each made when the key is
// first used.
type keyRules struct {
	ring  *keyring.Ring
	byKey sync.Map // *keyring.Key to *rules
}

// rules are what a key is limited by.
type rules struct {
	exchange []rule
	attempt  []rule // of each attempt at an upstream
}

// rule is a limit as it applies to one key.
type rule struct {
	limit   *ratelimit.Limit
	scope   string // whole, or what stands before the model's name
	model   bool   // the scope goes on with the model's name
	at      at     // and with where the attempt goes
	reserve config.Reserve
	fixed   int64 // tokens of output, of config.ReserveFixed
	failure failover.Policy
}

// at is what of an attempt a rule tells apart.
type at uint8

const (
	anywhere at = iota
	atUpstream
	atKey // of an upstream
)

// newPolicy checks that all limits of a configuration can be kept.
func newPolicy(cfg *config.Config) (policy, error) {
	p := policy{defaults: cfg.Limits, plans: cfg.Plans, current: &atomic.Pointer[keyRules]{}}
	p.current.Store(&keyRules{})
	lists := map[string][]config.Limit{"limits": cfg.Limits}
	for name, plan := range cfg.Plans {
		lists[fmt.Sprintf("plans[%q].limits", name)] = plan
	}
	for where, list := range lists {
		for _, l := range list {
			if _, err := kernelLimit(l); err != nil {
				return policy{}, fmt.Errorf("%s: %w", where, err)
			}
		}
	}
	return p, nil
}

// rules are the limits of a key: its own before its plan's before everyone's,
// by name.
func (p *policy) rules(ring *keyring.Ring, key *keyring.Key) (*rules, error) {
	current := p.current.Load()
	if current.ring != ring {
		current = &keyRules{ring: ring}
		p.current.Store(current)
	}
	if known, ok := current.byKey.Load(key); ok {
		return known.(*rules), nil
	}
	all := &rules{}
	for _, l := range override(p.defaults, p.plans[key.Plan], key.Limits) {
		if l.WhenPlan != "" && l.WhenPlan != key.Plan {
			continue
		}
		limit, err := kernelLimit(l)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", key.ID, err)
		}
		r := newRule(limit, l.Per, key)
		r.reserve, r.fixed, r.failure = l.Reserve, l.Fixed, failures[l.OnFailure]
		if r.at == anywhere {
			all.exchange = append(all.exchange, r)
		} else {
			all.attempt = append(all.attempt, r)
		}
	}
	current.byKey.Store(key, all)
	return all, nil
}

// override merges lists of limits: a later one replaces an earlier one's of the
// same name.
func override(lists ...[]config.Limit) (merged []config.Limit) {
	at := map[string]int{}
	for _, list := range lists {
		for _, l := range list {
			if i, ok := at[l.Name]; ok {
				merged[i] = l
				continue
			}
			at[l.Name] = len(merged)
			merged = append(merged, l)
		}
	}
	return merged
}

// kernelLimit is a limit of the configuration as the kernel has it.
func kernelLimit(l config.Limit) (*ratelimit.Limit, error) {
	s := ratelimit.Spec{
		Name: l.Name, Unit: units[l.Unit], Max: l.Amount, Window: l.Window, Burst: l.Burst,
		Calendar: calendars[l.Calendar], Location: l.Location, Shadow: l.Shadow,
	}
	if l.Precise {
		s.Precision = ratelimit.HighPrecision
	}
	return ratelimit.New(s)
}

var calendars = map[config.Calendar]ratelimit.Calendar{
	config.Day: ratelimit.Day, config.Week: ratelimit.Week, config.Month: ratelimit.Month,
}

var failures = map[config.OnStoreFailure]failover.Policy{
	config.FailLocal: failover.Local, config.FailOpen: failover.Open, config.FailClosed: failover.Closed,
}

var units = map[config.Unit]ratelimit.Unit{
	config.Requests: ratelimit.Requests, config.Tokens: ratelimit.Tokens, config.InputTokens: ratelimit.InputTokens,
	config.OutputTokens: ratelimit.OutputTokens, config.Concurrency: ratelimit.Concurrency,
}

// newRule names the scope in which a limit counts this key, such as
// "key:k_7f3" or "team:t_1/model:…". A key without a user, team or plan is one
// of its own: no limit is escaped by leaving them out.
func newRule(limit *ratelimit.Limit, per []config.Scope, key *keyring.Key) rule {
	r := rule{limit: limit}
	var parts []string
	own := "key:" + escape(key.ID)
	part := func(dimension, value string) {
		if value == "" {
			parts = append(parts, dimension+":"+own)
			return
		}
		parts = append(parts, dimension+":"+escape(value))
	}
	for _, s := range per {
		switch s {
		case config.PerKey:
			parts = append(parts, own)
		case config.PerUser:
			part("user", key.User)
		case config.PerTeam:
			part("team", key.Team)
		case config.PerPlan:
			part("plan", key.Plan)
		case config.PerModel:
			r.model = true
		case config.PerUpstream:
			r.at = max(r.at, atUpstream)
		case config.PerUpstreamKey:
			r.at = atKey
		}
	}
	if r.model {
		parts = append(parts, "model:")
	}
	r.scope = strings.Join(parts, "/")
	return r
}

// escape keeps the separators of scopes out of what stands between them.
var escape = strings.NewReplacer("%", "%25", "/", "%2F", ":", "%3A").Replace

// scopeAt is the scope of a rule for an attempt at an upstream with one of its keys,
// whose id is "" where there is no pool.
func (r *rule) scopeAt(model, upstream, key string) string {
	scope := r.scopeFor(model)
	if scope != "" {
		scope += "/"
	}
	if r.at == atUpstream {
		return scope + "upstream:" + upstream
	}
	return scope + "upstream_key:" + upstream + "." + key
}

// scopeFor is the scope of a rule for a model.
func (r *rule) scopeFor(model string) string {
	if !r.model {
		return r.scope
	}
	return r.scope + model
}
