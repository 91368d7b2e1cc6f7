package memstore

import (
	"context"
	"fmt"

	"github.com/weir-gateway/weir/ratelimit"
)

// Reset forgets what windows have counted; see ratelimit.Store.
func (s *Store) Reset(_ context.Context, charges []ratelimit.Charge) error {
	for i := range charges {
		c := &charges[i]
		if c.Limit == nil {
			return fmt.Errorf("reset: charge %d: no limit", i)
		}
		if c.Limit.Unit == ratelimit.Concurrency {
			continue
		}
		st := &s.stripes[s.stripeOf(c.Scope)]
		st.mu.Lock()
		if a := st.byScope[c.Scope].find(c.Limit.ID()); a != nil {
			a.tally.Clear()
		}
		st.mu.Unlock()
	}
	return nil
}
