package memstore

import (
	"math/bits"
	"strings"
	"sync"
	"time"

	"github.com/weir-gateway/weir/ratelimit"
)

const (
	stripes = 64 // as many as a stripeSet has bits
	// linger is how long an empty account is kept after its last charge. A
	// key whose slots are all free now comes back the next moment.
	linger = time.Minute
)

// account is the state of one limit in one scope; guarded by its stripe.
type account struct {
	limit   ratelimit.LimitID
	scope   string
	sibling *account // the next one of the same scope
	tally   ratelimit.Tally
	used    time.Duration // when it was charged last
	pins    int           // open receipts that refer to it
	place   int           // in stripe.all
}

// stripe holds the accounts of the scopes that hash to it.
type stripe struct {
	mu      sync.Mutex
	byScope map[string]*account // the first of each scope's
	all     []*account          // every one, so that the hand can go round
	hand    int
	_       [16]byte // to a cache line
}

// stripeSet has a bit for each stripe.
type stripeSet uint64

func (s stripeSet) with(stripe uint8) stripeSet { return s | 1<<stripe }

// lock takes the stripes in ascending order, as every holder of several must.
func (s *Store) lock(set stripeSet) {
	for ; set != 0; set &= set - 1 {
		s.stripes[bits.TrailingZeros64(uint64(set))].mu.Lock()
	}
}

func (s *Store) unlock(set stripeSet) {
	for ; set != 0; set &= set - 1 {
		s.stripes[bits.TrailingZeros64(uint64(set))].mu.Unlock()
	}
}

// find answers the account of a limit among those of a scope, of which a is the
// first, or nil.
func (a *account) find(limit ratelimit.LimitID) *account {
	for a != nil && a.limit != limit {
		a = a.sibling
	}
	return a
}

// open makes the account of a charge.
func (st *stripe) open(c *ratelimit.Charge) *account {
	if st.byScope == nil {
		st.byScope = make(map[string]*account)
	}
	a := &account{
		limit:   c.Limit.ID(),
		scope:   strings.Clone(c.Scope), // which may be a part of a large string
		sibling: st.byScope[c.Scope],
		tally:   ratelimit.MakeTally(c.Limit),
		place:   len(st.all),
	}
	st.byScope[a.scope] = a
	st.all = append(st.all, a)
	return a
}

// glance looks at n accounts from where the hand points, drops those that have
// been idle since the given time, and answers how many. With two looked at for
// each one made, idle ones leave faster than others come.
func (st *stripe) glance(now, since time.Duration, n int) (dropped int) {
	for range min(n, len(st.all)) {
		if st.hand >= len(st.all) {
			st.hand = 0
		}
		if a := st.all[st.hand]; a.used <= since && a.idle(now) {
			st.drop(a)
			dropped++
		} else {
			st.hand++
		}
	}
	return dropped
}

// drop forgets an account, whose place the last one takes.
func (st *stripe) drop(a *account) {
	st.unlink(a)
	last := len(st.all) - 1
	st.all[a.place] = st.all[last]
	st.all[a.place].place = a.place
	st.all[last] = nil
	st.all = st.all[:last]
	if last == 0 {
		st.byScope, st.all = nil, nil // what a past flood left allocated
	}
}

// unlink takes an account from among its siblings.
func (st *stripe) unlink(a *account) {
	first := st.byScope[a.scope]
	switch {
	case first != a:
		for first.sibling != a {
			first = first.sibling
		}
		first.sibling = a.sibling
	case a.sibling != nil:
		// The key in the map is the first one's string: replace it as well,
		// not to keep two.
		delete(st.byScope, a.scope)
		st.byScope[a.sibling.scope] = a.sibling
	default:
		delete(st.byScope, a.scope)
	}
}

// held is the tally of an account, or nil of none.
func (a *account) held() *ratelimit.Tally {
	if a == nil {
		return nil
	}
	return &a.tally
}

// idle tells whether nothing would change if the account were forgotten.
func (a *account) idle(now time.Duration) bool {
	return a.pins == 0 && a.tally.Empty(now)
}

// sweep drops every account that has been idle since the given time, one stripe
// after the other, and answers how many are left and the live leases in them.
func (s *Store) sweep(now, since time.Duration) (accounts, leases int) {
	for i := range s.stripes {
		st := &s.stripes[i]
		st.mu.Lock()
		s.accounts.Add(-int64(st.glance(now, since, len(st.all))))
		accounts += len(st.all)
		for _, a := range st.all {
			leases += a.tally.Leases(now)
		}
		st.mu.Unlock()
	}
	return accounts, leases
}
