package memstore

import (
	"sync"
	"time"

	"github.com/weir-gateway/weir/ratelimit"
)

const (
	shards = 64
	// maxEnded bounds the tombstones of a shard.
	maxEnded = 256
	// maxSpare bounds what a shard keeps for reuse.
	maxSpare = 256
)

// receipt is what is known of one exchange. Open, it tells what was reserved
// where. Ended, it is a tombstone without charges.
type receipt struct {
	id       ratelimit.ID
	open     bool
	deadline time.Duration // when it is forgotten
	stripes  stripeSet     // of the charges
	charges  []charge

	prev, next *receipt // in the queue that it is in
}

// charge is one reservation of a receipt.
type charge struct {
	account *account // pinned by the receipt
	stripe  uint8
	mark    ratelimit.Mark
	cost    int64
}

// pin adds n to the pins of each account that the receipt refers to; the caller
// has locked their stripes.
func (r *receipt) pin(n int) {
	for i := range r.charges {
		if a := r.charges[i].account; a != nil {
			a.pins += n
		}
	}
}

// shard holds the receipts of the exchanges that fall to it. Both queues are
// in order of deadline, since the time to live is the same for all in one.
type shard struct {
	mu    sync.Mutex
	byID  map[ratelimit.ID]*receipt
	open  queue
	ended queue

	tallies []*ratelimit.Tally // scratch of decide
	spare   []*receipt         // to be used again
	charges [][]charge         // likewise
}

// blank answers an unused receipt with room for charges.
func (sh *shard) blank(id ratelimit.ID) *receipt {
	r := pop(&sh.spare)
	if r == nil {
		r = &receipt{}
	}
	r.id, r.stripes, r.charges = id, 0, pop(&sh.charges)[:0]
	return r
}

// recycle keeps a receipt that is in no queue for reuse.
func (sh *shard) recycle(r *receipt) {
	sh.stripOf(r)
	if len(sh.spare) < maxSpare {
		sh.spare = append(sh.spare, r)
	}
}

// stripOf takes the charges off a receipt, so that no tombstone holds them.
func (sh *shard) stripOf(r *receipt) {
	if r.charges != nil && len(sh.charges) < maxSpare {
		clear(r.charges)
		sh.charges = append(sh.charges, r.charges)
	}
	r.charges = nil
}

// file keeps a receipt whose charges have been made.
func (sh *shard) file(r *receipt, deadline time.Duration) {
	r.open, r.deadline = true, deadline
	sh.byID[r.id] = r
	sh.open.push(r)
}

// extend lets an open receipt live longer.
func (sh *shard) extend(r *receipt, deadline time.Duration) {
	sh.open.remove(r)
	r.deadline = deadline
	sh.open.push(r)
}

// end turns an open receipt into a tombstone.
func (sh *shard) end(r *receipt, deadline time.Duration) {
	sh.open.remove(r)
	sh.stripOf(r)
	r.open, r.deadline = false, deadline
	sh.ended.push(r)
}

// bury leaves a tombstone of an exchange that is not known.
func (sh *shard) bury(id ratelimit.ID, deadline time.Duration) {
	r := sh.blank(id)
	sh.stripOf(r)
	r.open, r.deadline = false, deadline
	sh.byID[id] = r
	sh.ended.push(r)
}

// forget removes a receipt that is in no queue any more.
func (sh *shard) forget(r *receipt) {
	delete(sh.byID, r.id)
	sh.recycle(r)
}

// reap forgets the receipts of sh whose time has come. The reservations of the
// open ones stand as charged.
func (s *Store) reap(sh *shard, now time.Duration) {
	for r := sh.ended.front; r != nil && (r.deadline <= now || sh.ended.len > maxEnded); r = sh.ended.front {
		sh.ended.remove(r)
		sh.forget(r)
	}
	for r := sh.open.front; r != nil && r.deadline <= now; r = sh.open.front {
		s.lock(r.stripes)
		r.pin(-1)
		s.unlock(r.stripes)
		sh.open.remove(r)
		sh.forget(r)
	}
}

// queue is a list of receipts.
type queue struct {
	front, back *receipt
	len         int
}

func (q *queue) push(r *receipt) {
	r.prev, r.next = q.back, nil
	if q.back == nil {
		q.front = r
	} else {
		q.back.next = r
	}
	q.back = r
	q.len++
}

func (q *queue) remove(r *receipt) {
	if r.prev == nil {
		q.front = r.next
	} else {
		r.prev.next = r.next
	}
	if r.next == nil {
		q.back = r.prev
	} else {
		r.next.prev = r.prev
	}
	r.prev, r.next = nil, nil
	q.len--
}

// pop takes the last element off a stack, or answers the zero value.
func pop[T any](stack *[]T) (top T) {
	if last := len(*stack) - 1; last >= 0 {
		top = (*stack)[last]
		*stack = (*stack)[:last]
	}
	return top
}
