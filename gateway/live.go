package gateway

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weir-gateway/weir/ratelimit"
)

// live are the exchanges that have not ended.
type live struct {
	mu        sync.Mutex
	exchanges map[ratelimit.ID]*Exchange // guarded by mu
	held      map[ratelimit.ID]*held     // guarded by mu
	changed   chan struct{}              // told when the last one ends
}

// held is what an attempt has reserved.
type held struct {
	id      ratelimit.ID
	charges []ratelimit.Charge
}

func (l *live) hold(h *held) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = map[ratelimit.ID]*held{}
	}
	l.held[h.id] = h
}

func (l *live) letGo(h *held) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, h.id)
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
	for id := range l.held {
		ids = append(ids, id)
	}
	return ids
}

func (l *live) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.exchanges)
}

// owner finds what was reserved under an id, and tells whether it is settled.
func (l *live) owner(id ratelimit.ID) (charges []ratelimit.Charge, settled func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if x, ok := l.exchanges[id]; ok {
		return x.charges, x.settled.Load
	}
	if h, ok := l.held[id]; ok {
		return h.charges, func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.held[id] == nil
		}
	}
	return nil, nil
}

func (l *live) find(id ratelimit.ID) (*Exchange, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	x, ok := l.exchanges[id]
	return x, ok
}

// named finds an exchange of this process by its [Exchange.ID].
func (g *Gateway) named(name string) (*Exchange, bool) {
	instance, number, _ := strings.Cut(name, ".")
	seq, err := strconv.ParseUint(number, 36, 64)
	if err != nil || instance != strconv.FormatUint(g.instance, 36) {
		return nil, false
	}
	return g.live.find(ratelimit.ID{Instance: g.instance, Seq: seq})
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
	charges, settled := g.live.owner(id)
	if settled == nil || settled() {
		return
	}
	err := g.limits.PutBack(ctx, id, charges)
	if err == nil && settled() {
		// It ended meanwhile, and the store did not know it then.
		err = g.limits.Settle(ctx, id, nil)
	}
	if err != nil {
		g.log.Warn().Err(err).Stringer("exchange", id).Msg("putting a lost lease back failed")
	}
}
