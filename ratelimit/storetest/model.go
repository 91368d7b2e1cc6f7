package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/weir-gateway/weir/ratelimit"
)

// model is the plainest store there is: a log of every charge, which each
// question reads from end to end. It keeps no sums, and finds out how long to
// wait by trying. Only the rule of B+1 buckets it has in common with the
// kernel.
type model struct {
	now      time.Duration // since the Unix epoch
	accounts map[account]*ledger
	receipts map[ratelimit.ID]*receipt
}

type account struct {
	limit ratelimit.LimitID
	scope string
}

// ledger is all that was ever charged to one account.
type ledger struct {
	limit  *ratelimit.Limit
	log    []*entry                       // in order of time
	leases map[ratelimit.ID]time.Duration // expiry
}

type entry struct {
	at     time.Duration
	amount int64
	debt   bool // was not asked whether it fits
}

type receipt struct {
	charges  []ratelimit.Charge
	entries  []*entry
	ended    bool
	deadline time.Duration
}

func newModel(now time.Time) *model {
	return &model{
		now:      time.Duration(now.UnixNano()),
		accounts: make(map[account]*ledger),
		receipts: make(map[ratelimit.ID]*receipt),
	}
}

func (m *model) ledger(c ratelimit.Charge) *ledger {
	key := account{c.Limit.ID(), c.Scope}
	if m.accounts[key] == nil {
		m.accounts[key] = &ledger{limit: c.Limit, leases: make(map[ratelimit.ID]time.Duration)}
	}
	return m.accounts[key]
}

// receipt answers the receipt that is not forgotten yet.
func (m *model) receipt(id ratelimit.ID) *receipt {
	if r := m.receipts[id]; r != nil && r.deadline > m.now {
		return r
	}
	return nil
}

// counted tells whether an entry counts at a time: its bucket is among the B+1
// newest.
func (l *ledger) counted(e *entry, at time.Duration) bool {
	return int64(at/l.limit.Step())-int64(e.at/l.limit.Step()) <= int64(l.limit.Buckets())
}

func (l *ledger) used(at time.Duration) (sum int64) {
	for _, expires := range l.leases {
		if expires > at {
			sum++
		}
	}
	for _, e := range slices.Backward(l.log) {
		if !l.counted(e, at) {
			break
		}
		sum += e.amount
	}
	return sum
}

// changes are the times at which something that counts now ceases to.
func (l *ledger) changes(now time.Duration) []time.Duration {
	var times []time.Duration
	for _, expires := range l.leases {
		if expires > now {
			times = append(times, expires)
		}
	}
	if step := l.limit.Step(); step > 0 {
		for i := range l.limit.Buckets() + 1 {
			times = append(times, (now/step+time.Duration(i)+1)*step)
		}
	}
	slices.Sort(times)
	return times
}

// wait is the first time from now on when no more than most is used.
func (l *ledger) wait(now time.Duration, most int64) time.Duration {
	if l.used(now) <= most {
		return 0
	}
	for _, at := range l.changes(now) {
		if l.used(at) <= most {
			return at - now
		}
	}
	panic(fmt.Sprintf("limit %v never comes down to %d", l.limit, most))
}

func (m *model) state(c ratelimit.Charge) ratelimit.State {
	l := m.ledger(c)
	used := l.used(m.now)
	return ratelimit.State{Used: used, Remaining: max(0, c.Limit.Max-used), Reset: l.wait(m.now, 0)}
}

func (m *model) states(charges []ratelimit.Charge) []ratelimit.State {
	states := make([]ratelimit.State, 0, len(charges))
	for _, c := range charges {
		states = append(states, m.state(c))
	}
	return states
}

func (m *model) admit(id ratelimit.ID, charges []ratelimit.Charge, force bool) ratelimit.Decision {
	d := ratelimit.Decision{Admitted: true, Refused: -1}
	if m.receipt(id) == nil {
		if !force {
			d = m.decide(charges)
		}
		if d.Admitted {
			m.charge(id, charges, force)
		}
	}
	d.States = m.states(charges)
	return d
}

func (m *model) decide(charges []ratelimit.Charge) ratelimit.Decision {
	d := ratelimit.Decision{Admitted: true, Refused: -1}
	for i, c := range charges {
		if c.Cost > c.Limit.Max {
			return ratelimit.Decision{Refused: i, TooLarge: true}
		}
		if wait := m.ledger(c).wait(m.now, c.Limit.Max-c.Cost); wait > d.RetryAfter {
			d = ratelimit.Decision{Refused: i, RetryAfter: wait}
		}
	}
	return d
}

func (m *model) charge(id ratelimit.ID, charges []ratelimit.Charge, force bool) {
	r := &receipt{charges: charges, deadline: m.now + ratelimit.ReceiptTTL}
	m.receipts[id] = r
	for _, c := range charges {
		l, e := m.ledger(c), &entry{at: m.now, amount: c.Cost, debt: force}
		r.entries = append(r.entries, e)
		if c.Limit.Unit == ratelimit.Concurrency {
			l.leases[id] = m.now + ratelimit.LeaseTTL
		} else {
			l.log = append(l.log, e)
		}
	}
}

// end settles with actual, or as reserved if that is nil.
func (m *model) end(id ratelimit.ID, actual []int64) {
	r := m.receipt(id)
	if r == nil || r.ended {
		return
	}
	r.ended, r.deadline = true, m.now+ratelimit.TombstoneTTL
	for i, c := range r.charges {
		l, e := m.ledger(c), r.entries[i]
		switch {
		case c.Limit.Unit == ratelimit.Concurrency:
			delete(l.leases, id)
		case actual == nil:
		case actual[i] > c.Cost:
			l.log = append(l.log, &entry{at: m.now, amount: actual[i] - c.Cost, debt: true})
		case l.counted(e, m.now):
			e.amount = actual[i]
		}
	}
}

func (m *model) cancel(id ratelimit.ID) {
	if r := m.receipt(id); r != nil {
		m.end(id, make([]int64, len(r.charges)))
	}
}

func (m *model) renew(ids []ratelimit.ID) (lost []ratelimit.ID) {
	for _, id := range ids {
		r := m.receipt(id)
		held := r != nil
		if held && !r.ended {
			r.deadline = m.now + ratelimit.ReceiptTTL
			for _, c := range r.charges {
				if c.Limit.Unit == ratelimit.Concurrency {
					l := m.ledger(c)
					held = held && l.leases[id] > m.now
					l.leases[id] = m.now + ratelimit.LeaseTTL
				}
			}
		}
		if !held {
			lost = append(lost, id)
		}
	}
	return lost
}
