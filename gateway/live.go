package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/weir-gateway/weir/ratelimit"
)

// live are the exchanges that have not ended.
type live struct {
	mu        sync.Mutex
	exchanges map[ratelimit.ID]*Exchange // guarded by mu
	changed   chan struct{}              // told when the last one ends
}

func (l *live) add(x *Exchange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.exchanges[x.id] = x
}

func (l *live) remove(x *Exchange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.exchanges, x.id)
	if len(l.exchanges) == 0 {
		select {
		case l.changed <- struct{}{}:
		default:
		}
	}
}

// unsettled are the exchanges that hold what they reserved.
func (l *live) unsettled() []ratelimit.ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := make([]ratelimit.ID, 0, len(l.exchanges))
	for id, x := range l.exchanges {
		if !x.settled.Load() {
			ids = append(ids, id)
		}
	}
	return ids
}

func (l *live) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.exchanges)
}

func (l *live) find(id ratelimit.ID) (*Exchange, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	x, ok := l.exchanges[id]
	return x, ok
}

// Live is how many exchanges have not ended.
func (g *Gateway) Live() int { return g.live.len() }

// Drain waits until no exchange is live, or ctx ends, and answers how many are
// left.
func (g *Gateway) Drain(ctx context.Context) int {
	for {
		n := g.live.len()
		if n == 0 {
			return 0
		}
		select {
		case <-ctx.Done():
			return n
		case <-g.live.changed:
		}
	}
}

// RenewLeases keeps the slots of live exchanges until ctx ends.
func (g *Gateway) RenewLeases(ctx context.Context) error {
	tick := time.NewTicker(ratelimit.LeaseTTL / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			g.renew(ctx)
		}
	}
}

// renew extends the leases of all live exchanges, and puts back by force what
// the store does not know any more: the count must stay truthful.
func (g *Gateway) renew(ctx context.Context) {
	ids := g.live.unsettled()
	if len(ids) == 0 {
		return
	}
	lost, err := g.limits.Renew(ctx, ids)
	if err != nil {
		g.log.Warn().Err(err).Int("exchanges", len(ids)).Msg("renewing leases failed; trying again")
		return
	}
	for _, id := range lost {
		g.putBack(ctx, id)
	}
	if len(lost) > 0 {
		g.metrics.LeasesLost(len(lost))
		g.log.Warn().Int("leases", len(lost)).Msg("leases of live exchanges had expired and were put back")
	}
}

func (g *Gateway) putBack(ctx context.Context, id ratelimit.ID) {
	x, ok := g.live.find(id)
	if !ok || x.settled.Load() {
		return
	}
	err := g.limits.PutBack(ctx, id, x.charges)
	if err == nil && x.settled.Load() {
		// It ended meanwhile, and the store did not know it then.
		err = g.limits.Settle(ctx, id, nil)
	}
	if err != nil {
		g.log.Warn().Err(err).Str("request_id", x.call.RequestID).Msg("putting a lost lease back failed")
	}
}
