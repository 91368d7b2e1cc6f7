package storetest

import (
	"fmt"
	"slices"
	"sort"
	"strings"
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
	zone   *time.Location
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
		l := &ledger{limit: c.Limit, leases: make(map[ratelimit.ID]time.Duration)}
		if c.Limit.Calendar != ratelimit.NoCalendar {
			_, name, _ := strings.Cut(c.Limit.ID().String(), "/"+c.Limit.Calendar.String()+"/")
			l.zone = zone(name)
		}
		m.accounts[key] = l
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
// newest, or it is of the same period.
func (l *ledger) counted(e *entry, at time.Duration) bool {
	if l.limit.Calendar != ratelimit.NoCalendar {
		return l.period(e.at) == l.period(at)
	}
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
	if l.limit.Calendar != ratelimit.NoCalendar {
		times = append(times, l.nextPeriod(now))
	}
	slices.Sort(times)
	return times
}

// period names the calendar period of a time as a calendar on the wall does.
func (l *ledger) period(at time.Duration) [2]int {
	when := time.Unix(0, int64(at)).In(l.zone)
	switch l.limit.Calendar {
	case ratelimit.Day:
		return [2]int{when.Year(), when.YearDay()}
	case ratelimit.Week:
		year, week := when.ISOWeek()
		return [2]int{year, week}
	default:
		return [2]int{when.Year(), int(when.Month())}
	}
}

// nextPeriod looks for the first moment of the next period.
func (l *ledger) nextPeriod(now time.Duration) time.Duration {
	this := l.period(now)
	ahead := sort.Search(int(32*24*time.Hour/time.Second), func(seconds int) bool {
		return l.period(now.Truncate(time.Second)+time.Duration(seconds)*time.Second) != this
	})
	return now.Truncate(time.Second) + time.Duration(ahead)*time.Second
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
		tooLarge := c.Cost > c.Limit.Max
		if !tooLarge && m.ledger(c).wait(m.now, c.Limit.Max-c.Cost) == 0 {
			continue
		}
		if c.Limit.Shadow {
			d.Shadowed = append(d.Shadowed, i)
			continue
		}
		m.refuse(&d, i, charges)
	}
	return d
}

// refuse has a charge that does not fit named, if it is to be.
func (m *model) refuse(d *ratelimit.Decision, i int, charges []ratelimit.Charge) {
	c := charges[i]
	switch {
	case d.TooLarge:
	case c.Cost > c.Limit.Max:
		*d = ratelimit.Decision{Refused: i, TooLarge: true, Shadowed: d.Shadowed}
	default:
		if wait := m.ledger(c).wait(m.now, c.Limit.Max-c.Cost); wait > d.RetryAfter {
			*d = ratelimit.Decision{Refused: i, RetryAfter: wait, Shadowed: d.Shadowed}
		}
	}
}

func (m *model) charge(id ratelimit.ID, charges []ratelimit.Charge, force bool) {
	r := &receipt{charges: charges, deadline: m.now + ratelimit.ReceiptTTL}
	m.receipts[id] = r
	for _, c := range charges {
		l, e := m.ledger(c), &entry{at: m.now, amount: c.Cost, debt: force || c.Limit.Shadow}
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
	r := m.receipt(id)
	if r == nil {
		m.receipts[id] = &receipt{ended: true, deadline: m.now + ratelimit.TombstoneTTL}
		return
	}
	m.end(id, make([]int64, len(r.charges)))
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
