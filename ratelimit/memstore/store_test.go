package memstore_test

import (
	"testing"

	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/ratelimit/memstore"
	"github.com/weir-gateway/weir/ratelimit/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, steps, func(_ *testing.T, clock *storetest.Clock) ratelimit.Store {
		return counting{memstore.New(memstore.Options{Clock: clock.Now})}
	})
}

// counting lets storetest see what is left in a store.
type counting struct{ *memstore.Store }

func (c counting) Residue(*testing.T) int {
	s := c.Stats()
	return s.Scopes + s.Leases + s.Receipts + s.Tombstones
}
