package gateway

import (
	"context"

	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/ratelimit/failover"
)

// reserve charges the limits of upstreams for the attempt. An error of the key is one
// that another key may not have.
func (a *attempts) reserve(ctx context.Context, at *Attempt) (ofKey bool, err *openai.Error) {
	if len(a.rules) == 0 {
		return false, nil
	}
	x, h := a.x, &held{id: a.x.g.nextID(), charges: make([]ratelimit.Charge, len(a.rules))}
	policies := make([]failover.Policy, len(a.rules))
	for i := range a.rules {
		r := &a.rules[i]
		h.charges[i] = ratelimit.Charge{Limit: r.limit, Scope: r.scopeAt(x.model.Name, a.plan[at.target].Server.Name, at.keyID), Cost: x.cost(r)}
		policies[i] = r.failure
	}
	d, mode, cause := x.g.limits.Admit(ctx, h.id, h.charges, policies, ratelimit.AdmitOptions{})
	switch {
	case cause != nil:
		return false, storeError(cause)
	case !d.Admitted:
		e := alone(limitError(h.charges, &d), mode)
		e.Extra = nil // the headers tell of the client's own limits
		return a.rules[d.Refused].at == atKey, e
	}
	at.charge = h
	x.g.live.hold(h)
	return false, nil
}

// release settles what the attempt was charged: nothing if it did not reach the
// upstream, and no tokens if it failed there.
func (at *Attempt) release(reached bool, actual amounts) {
	h := at.charge
	if h == nil {
		return
	}
	at.charge = nil
	g := at.of.x.g
	g.live.letGo(h)
	at.of.x.tell(func(ctx context.Context) error {
		if !reached {
			return g.limits.Cancel(ctx, h.id)
		}
		list := make([]int64, len(h.charges))
		for i := range h.charges {
			list[i] = actual.of(h.charges[i].Limit.Unit)
		}
		return g.limits.Settle(ctx, h.id, list)
	})
}
