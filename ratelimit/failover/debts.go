package failover

import (
	"slices"
	"sync"

	"github.com/weir-gateway/weir/ratelimit"
)

// ending is how an exchange ended.
type ending struct {
	cancel bool
	actual []int64 // of Settle
}

// debt is what the store is to be told of one exchange.
type debt struct {
	id      ratelimit.ID
	charges []ratelimit.Charge // nil: the store knows of the exchange, and not of its end
	local   []int              // which of them were counted in memory
	end     *ending            // nil: it is live

	// Owned by pay: what was forced, for each charge.
	forced []int64
}

// debts are the exchanges that are owed to the store, oldest first.
type debts struct {
	most    int
	dropped func(n int)

	mu    sync.Mutex
	byID  map[ratelimit.ID]*debt
	order []*debt // some may have left byID
}

// admitted owes an exchange that was decided without the store.
func (ds *debts) admitted(id ratelimit.ID, charges []ratelimit.Charge, local []int) {
	ds.add(&debt{id: id, charges: charges, local: local})
}

// cancelled owes the cancellation of an exchange that the store may have admitted.
// A call that was given up may even be carried out after its cancellation: stores
// remember whom they were told to cancel.
func (ds *debts) cancelled(id ratelimit.ID) { ds.add(&debt{id: id, end: &ending{cancel: true}}) }

// endedOnly owes the end of an exchange that the store knows of.
func (ds *debts) endedOnly(id ratelimit.ID, e *ending) { ds.add(&debt{id: id, end: e}) }

func (ds *debts) add(d *debt) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	ds.byID[d.id] = d
	ds.order = append(ds.order, d)
	n := 0
	for len(ds.byID) > ds.most {
		if oldest := ds.popLocked(); oldest != nil {
			n++
		}
	}
	if n > 0 {
		ds.dropped(n)
	}
}

// ended notes the end of an exchange that is owed as a whole, and tells whether
// it was one, and which of its charges were counted in memory.
func (ds *debts) ended(id ratelimit.ID, e *ending) (local []int, ok bool) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	d, ok := ds.byID[id]
	if !ok || d.charges == nil {
		return nil, false
	}
	if d.end == nil {
		d.end = e
	}
	return d.local, true
}

// owes tells whether an exchange is owed as a whole.
func (ds *debts) owes(id ratelimit.ID) bool {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	d, ok := ds.byID[id]
	return ok && d.charges != nil
}

// payable are the debts, oldest first. They stay owed until paid.
func (ds *debts) payable() []*debt {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	ds.order = slices.DeleteFunc(ds.order, func(d *debt) bool { return ds.byID[d.id] != d })
	return slices.Clone(ds.order)
}

// owed tells whether a debt still is.
func (ds *debts) owed(d *debt) bool {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return ds.byID[d.id] == d
}

// taken is what an exchange has taken of each limit, as far as is known: what it
// reserved while it is live.
func (ds *debts) taken(d *debt) []int64 {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	taken := make([]int64, len(d.charges))
	for i := range taken {
		switch {
		case d.end == nil || !d.end.cancel && d.end.actual == nil:
			taken[i] = d.charges[i].Cost
		case !d.end.cancel:
			taken[i] = d.end.actual[i]
		}
	}
	return taken
}

// endOf is how the exchange of a debt has ended by now, and whether it has.
// If not, it is the store's from now on: the debt is paid.
func (ds *debts) endOf(d *debt) (*ending, bool) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if d.end == nil {
		delete(ds.byID, d.id)
		return nil, false
	}
	return d.end, true
}

// paid forgets a debt.
func (ds *debts) paid(d *debt) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if ds.byID[d.id] == d {
		delete(ds.byID, d.id)
	}
}

// popLocked drops the oldest entry, and returns the debt if it was owed still.
func (ds *debts) popLocked() *debt {
	d := ds.order[0]
	ds.order[0] = nil
	ds.order = ds.order[1:]
	if ds.byID[d.id] != d {
		return nil
	}
	delete(ds.byID, d.id)
	return d
}

func (ds *debts) len() int {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return len(ds.byID)
}
