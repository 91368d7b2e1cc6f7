package failover

import (
	"context"
	"math"
	"sync/atomic"

	"github.com/weir-gateway/weir/ratelimit"
)

// presenceScope is where replicas count each other.
const presenceScope = "weir:replicas"

// presence is how replicas know how many they are: each holds a lease of one
// limit, as exchanges do, and looks how many there are.
type presence struct {
	charge ratelimit.Charge
	id     ratelimit.ID
	n      atomic.Int64
}

func newPresence(instance uint64) *presence {
	limit, err := ratelimit.NewLimit("replicas", ratelimit.Concurrency, ratelimit.MaxAmount, 0)
	if err != nil {
		panic(err) // it is a constant
	}
	p := &presence{
		charge: ratelimit.Charge{Limit: limit, Scope: presenceScope, Cost: 1},
		id:     ratelimit.ID{Instance: instance, Seq: math.MaxUint64},
	}
	p.n.Store(1)
	return p
}

// beat keeps this replica's lease and counts all.
func (s *Store) beat(ctx context.Context) {
	if !s.breaker.allows() {
		return
	}
	charges := []ratelimit.Charge{s.presence.charge}
	lost, err := s.Renew(ctx, []ratelimit.ID{s.presence.id})
	if err == nil && len(lost) > 0 {
		err = s.PutBack(ctx, s.presence.id, charges)
	}
	if err != nil {
		return // counted by the breaker
	}
	if states, err := s.Peek(ctx, charges); err == nil {
		s.presence.n.Store(max(1, states[0].Used))
	}
}

// leave gives the lease up, so that the others have more at once.
func (s *Store) leave(ctx context.Context) {
	if s.breaker.allows() {
		_ = s.store.Cancel(ctx, s.presence.id) // it ends by itself otherwise
	}
}
