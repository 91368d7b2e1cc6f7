package gateway

import (
	"sync"
	"time"

	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/ratelimit/failover"
)

const (
	// denialTTL bounds how long a refusal is repeated without asking: a refund
	// may have made room meanwhile.
	denialTTL = 100 * time.Millisecond
	// maxDenials bounds how many are remembered.
	maxDenials = 10_000
)

// denials remembers refusals by window limits for a moment, so that a flood of
// requests that cannot be admitted costs the store nothing. The zero value is
// ready for use.
type denials struct {
	// requestsOnly leaves limits on tokens out, where refunds make room all the
	// time and asking costs next to nothing.
	requestsOnly bool

	mu      sync.RWMutex
	byPlace map[place]denial
}

// place is a limit in a scope.
type place struct {
	limit ratelimit.LimitID
	scope string
}

// denial is a refusal.
type denial struct {
	charge ratelimit.Charge // with the cost that did not fit; a smaller one may
	state  ratelimit.State
	mode   failover.Mode // by which it was refused
	until  time.Time     // repeated until then
	retry  time.Time     // when the charge would fit
}

// known repeats a refusal that one of the charges met a moment ago, or returns nil.
func (ds *denials) known(charges []ratelimit.Charge, now time.Time) *openai.Error {
	ds.mu.RLock()
	defer ds.mu.RUnlock()
	if len(ds.byPlace) == 0 {
		return nil
	}
	for i := range charges {
		c := &charges[i]
		d, ok := ds.byPlace[place{c.Limit.ID(), c.Scope}]
		if ok && now.Before(d.until) && c.Cost >= d.charge.Cost && c.Limit.Max <= d.charge.Limit.Max {
			return d.repeat(now)
		}
	}
	return nil
}

func (d *denial) repeat(now time.Time) *openai.Error {
	return alone(limitError([]ratelimit.Charge{d.charge}, &ratelimit.Decision{
		Refused: 0, RetryAfter: d.retry.Sub(now), States: []ratelimit.State{d.state},
	}), d.mode)
}

// note remembers a refusal.
func (ds *denials) note(charges []ratelimit.Charge, d *ratelimit.Decision, mode failover.Mode, now time.Time) {
	c := charges[d.Refused]
	if c.Limit.Unit == ratelimit.Concurrency || d.TooLarge || ds.requestsOnly && c.Limit.Unit != ratelimit.Requests {
		return
	}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if ds.byPlace == nil {
		ds.byPlace = map[place]denial{}
	}
	if len(ds.byPlace) >= maxDenials {
		ds.sweep(now)
	}
	if len(ds.byPlace) < maxDenials {
		ds.byPlace[place{c.Limit.ID(), c.Scope}] = denial{
			charge: c, state: d.States[d.Refused], mode: mode,
			until: now.Add(min(d.RetryAfter, denialTTL)), retry: now.Add(d.RetryAfter),
		}
	}
}

// forget forgets all.
func (ds *denials) forget() {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	clear(ds.byPlace)
}

// sweep forgets what is over; ds.mu is held.
func (ds *denials) sweep(now time.Time) {
	for p, d := range ds.byPlace {
		if !now.Before(d.until) {
			delete(ds.byPlace, p)
		}
	}
}

// Denied refuses a call before its body is read, if its key was refused by a limit
// on requests a moment ago and would be again. It returns nil if not.
func (g *Gateway) Denied(call Call, key *keyring.Key) *openai.Error {
	if call.Endpoint == openai.Unknown || g.denials.empty() {
		return nil
	}
	limits, err := g.rulebook.Load().policy.rules(g.keys.Ring(), key)
	if err != nil {
		return nil // Admit says so
	}
	var charges []ratelimit.Charge
	for i := range limits.exchange {
		if r := &limits.exchange[i]; r.limit.Unit == ratelimit.Requests && !r.model {
			charges = append(charges, ratelimit.Charge{Limit: r.limit, Scope: r.scope, Cost: 1})
		}
	}
	e := g.denials.known(charges, call.Start)
	if e != nil {
		x := &Exchange{g: g, call: call, key: key, span: g.traces.Start(call.Endpoint.Operation(), call.Trace, call.Start)}
		x.refuse(e)
	}
	return e
}

func (ds *denials) empty() bool {
	ds.mu.RLock()
	defer ds.mu.RUnlock()
	return len(ds.byPlace) == 0
}
