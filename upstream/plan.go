package upstream

import (
	"math/rand/v2"
	"time"

	"github.com/weir-gateway/weir/upstream/pool"
)

// Plan orders the targets for one request: first the one whose turn it is by the
// weights, then the others in order of preference; what does not answer comes last,
// and what has no usable key not at all. The error is a *pool.NoKeyError when
// nothing is left.
func (r *Route) Plan() ([]Target, error) {
	if len(r.Targets) == 1 && r.Targets[0].Server.Pool == nil {
		return r.Targets, nil
	}
	var up, down []Target
	var none *pool.NoKeyError
	for _, t := range r.Targets {
		switch missing := t.Server.noKey(); {
		case missing != nil:
			none = sooner(none, missing)
		case t.Server.Down():
			down = append(down, t)
		default:
			up = append(up, t)
		}
	}
	toFront(up)
	plan := append(up, down...)
	if len(plan) == 0 {
		return nil, none
	}
	return plan, nil
}

// sooner is the error that ends first. A key that comes back counts for more than
// one that does not.
func sooner(a, b *pool.NoKeyError) *pool.NoKeyError {
	if a == nil || a.Cooling == 0 || b.Cooling > 0 && b.Soonest < a.Soonest {
		return b
	}
	return a
}

// toFront draws one of the targets by weight and moves it to the front.
func toFront(list []Target) {
	var sum uint32
	for _, t := range list {
		sum += t.Weight
	}
	if sum == 0 {
		return
	}
	draw := rand.Uint32N(sum)
	for i, t := range list {
		if draw < t.Weight {
			copy(list[1:i+1], list[:i])
			list[0] = t
			return
		}
		draw -= t.Weight
	}
}

// Timeouts bound an answer.
type Timeouts struct {
	FirstByte time.Duration // until a streamed answer begins
	Idle      time.Duration // longest silence in the middle of it
	Total     time.Duration // until it ends; 0 is without end
}

// TimeoutsOf are those of the slowest target of a plan.
func TimeoutsOf(plan []Target) (t Timeouts) {
	endless := false
	for i := range plan {
		u := &plan[i].Server.Upstream
		t.FirstByte, t.Idle, t.Total = max(t.FirstByte, u.FirstByte), max(t.Idle, u.Idle), max(t.Total, u.Total)
		endless = endless || u.Total == 0
	}
	if endless {
		t.Total = 0
	}
	return t
}
