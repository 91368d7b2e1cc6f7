package memstore

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/weir-gateway/weir/ratelimit"
)

// sweepEvery is how often, at most, a full store is searched for idle accounts.
const sweepEvery = time.Second

// Options configure a store. The zero value is the default of each.
type Options struct {
	// Clock tells the time; time.Now by default. Without a monotonic reading
	// in its times, a jump forward gives capacity early.
	Clock func() time.Time
	// MaxScopes bounds the limits × scopes that count at one time; 1<<20 by
	// default, some 350 bytes each.
	MaxScopes int
	// MaxReceipts bounds the open exchanges; 1<<20 by default. It is divided
	// evenly among 64 shards by Seq, each of which has its part.
	MaxReceipts int
}

// Store is a ratelimit.Store in memory. New makes it.
type Store struct {
	time        *timeline
	seed        maphash.Seed
	maxAccounts int64
	maxOpen     int // per shard

	accounts  atomic.Int64 // in all stripes
	nextSweep atomic.Int64 // store time in ns
	shards    [shards]shard
	stripes   [stripes]stripe
}

var _ ratelimit.Store = (*Store)(nil)

// New returns an empty store. It runs no goroutine and needs no closing.
func New(opts Options) *Store {
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	s := &Store{
		time:        newTimeline(opts.Clock),
		seed:        maphash.MakeSeed(),
		maxAccounts: int64(cmp.Or(opts.MaxScopes, 1<<20)),
		maxOpen:     (cmp.Or(opts.MaxReceipts, 1<<20) + shards - 1) / shards,
	}
	for i := range s.shards {
		s.shards[i].byID = make(map[ratelimit.ID]*receipt)
	}
	return s
}

// Settle replaces a reservation by the truth; see ratelimit.Store.
func (s *Store) Settle(_ context.Context, id ratelimit.ID, actual []int64) error {
	sh, now := s.enter(id)
	defer sh.mu.Unlock()
	r := sh.byID[id]
	if r == nil || !r.open {
		return nil
	}
	if err := ratelimit.CheckActual(actual, len(r.charges)); err != nil {
		return fmt.Errorf("settle %s: %w", id, err)
	}
	s.close(sh, r, now, func(i int, reserved int64) int64 {
		if actual == nil {
			return reserved
		}
		return actual[i]
	})
	return nil
}

// Cancel gives a reservation back, or sees to it that it is not made; see
// ratelimit.Store.
func (s *Store) Cancel(_ context.Context, id ratelimit.ID) error {
	sh, now := s.enter(id)
	defer sh.mu.Unlock()
	switch r := sh.byID[id]; {
	case r == nil:
		sh.bury(id, now+ratelimit.TombstoneTTL)
	case r.open:
		s.close(sh, r, now, func(int, int64) int64 { return 0 })
	}
	return nil
}

// close settles each charge of an open receipt with the amount that actual
// tells, and ends it.
func (s *Store) close(sh *shard, r *receipt, now time.Duration, actual func(i int, reserved int64) int64) {
	s.lock(r.stripes)
	for i := range r.charges {
		c := &r.charges[i]
		c.account.tally.Settle(now, r.id, c.mark, c.cost, actual(i, c.cost))
		c.account.pins--
	}
	s.unlock(r.stripes)
	sh.end(r, now+ratelimit.TombstoneTTL)
}

// Renew extends leases and receipts; see ratelimit.Store. Each ID is a step of
// its own.
func (s *Store) Renew(_ context.Context, ids []ratelimit.ID) (lost []ratelimit.ID, err error) {
	for _, id := range ids {
		if !s.renew(id) {
			lost = append(lost, id)
		}
	}
	return lost, nil
}

// renew answers whether no lease of the exchange had been lost.
func (s *Store) renew(id ratelimit.ID) bool {
	sh, now := s.enter(id)
	defer sh.mu.Unlock()
	r := sh.byID[id]
	if r == nil || !r.open {
		return r != nil
	}
	sh.extend(r, now+ratelimit.ReceiptTTL)

	s.lock(r.stripes)
	defer s.unlock(r.stripes)
	all := true
	for i := range r.charges {
		c := &r.charges[i]
		mark, held := c.account.tally.Renew(now, id, c.mark, ratelimit.LeaseTTL)
		c.mark = mark
		all = all && held
	}
	return all
}

// Peek answers states; see ratelimit.Store.
func (s *Store) Peek(_ context.Context, charges []ratelimit.Charge) ([]ratelimit.State, error) {
	for i := range charges {
		if charges[i].Limit == nil {
			return nil, fmt.Errorf("peek: charge %d: no limit", i)
		}
	}
	return s.states(s.time.now(), charges, make([]ratelimit.State, 0, len(charges))), nil
}

// Stats is what a store holds.
type Stats struct {
	Scopes     int // limits × scopes that count something, or did lately
	Leases     int // live leases over all concurrency limits
	Receipts   int // open exchanges
	Tombstones int // ended exchanges that are remembered still
}

// Stats forgets what has been idle for a minute, and counts what is left. It visits
// everything, a stripe at a time: meant for scrapes, not for requests.
func (s *Store) Stats() Stats {
	var stats Stats
	now := s.time.now()
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		s.reap(sh, now)
		stats.Receipts += sh.open.len
		stats.Tombstones += sh.ended.len
		sh.mu.Unlock()
	}
	stats.Scopes, stats.Leases = s.sweep(now, now-linger)
	return stats
}

// enter locks the shard of an exchange and forgets what is due in it.
func (s *Store) enter(id ratelimit.ID) (*shard, time.Duration) {
	sh := &s.shards[id.Seq%shards]
	sh.mu.Lock()
	now := s.time.now()
	s.reap(sh, now)
	return sh, now
}

func (s *Store) stripeOf(scope string) uint8 {
	return uint8(maphash.String(s.seed, scope) % stripes)
}
