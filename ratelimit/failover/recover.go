package failover

import (
	"context"
	"slices"
	"time"

	"github.com/weir-gateway/weir/ratelimit"
)

// Run tries a store that is away until it answers, and then tells it what it is
// owed. It also pays single debts while the store is there. It ends with ctx.
func (s *Store) Run(ctx context.Context) error {
	tick, beat := time.NewTicker(s.probeEvery), time.NewTicker(ratelimit.LeaseTTL/3)
	defer tick.Stop()
	defer beat.Stop()
	s.beat(ctx)
	for {
		select {
		case <-ctx.Done():
			s.leave(context.WithoutCancel(ctx))
			return nil
		case <-beat.C:
			s.beat(ctx)
		case <-tick.C:
			s.mend(ctx)
		}
	}
}

// Flush tells the store what it is owed, as far as it can before ctx ends, and
// answers how many debts are left.
func (s *Store) Flush(ctx context.Context) int {
	for s.debts.len() > 0 && ctx.Err() == nil {
		before := s.debts.len()
		s.mend(ctx)
		if s.debts.len() < before {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(s.probeEvery):
		}
	}
	return s.debts.len()
}

// mend probes the store if it is away, and pays debts if it is not. One does at a time:
// at the end Flush may come while Run still pays.
func (s *Store) mend(ctx context.Context) {
	select {
	case s.mending <- struct{}{}:
		defer func() { <-s.mending }()
	case <-ctx.Done():
		return
	}
	st := s.Status()
	if !st.Away {
		s.pay(ctx)
		return
	}
	probe, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if _, err := s.store.Peek(probe, nil); err != nil {
		return
	}
	// Slots first: requests that the store decides from now on must see them.
	n, ok := s.pay(ctx)
	if !ok {
		return
	}
	now := time.Now()
	s.breaker.close(now)
	more, _ := s.pay(ctx) // what was decided alone meanwhile
	if s.events.Recovered != nil {
		s.events.Recovered(Outage{Lasted: now.Sub(st.Since), Debts: n + more})
	}
}

// pay tells the store of the debts, oldest first, until one cannot be told. It answers how many it told, and whether it told all.
func (s *Store) pay(ctx context.Context) (n int, ok bool) {
	spent := map[account]int64{}
	for _, d := range s.debts.payable() {
		if !s.debts.owed(d) {
			continue
		}
		if err := s.payOne(ctx, d, spent); err != nil {
			return n, false
		}
		n++
	}
	return n, true
}

// account is a limit in a scope.
type account struct {
	limit ratelimit.LimitID
	scope string
}

func (s *Store) payOne(ctx context.Context, d *debt, spent map[account]int64) error {
	if d.charges != nil {
		if err := s.force(ctx, d, spent); err != nil {
			return err
		}
	}
	end, ended := s.debts.endOf(d)
	if !ended {
		// It is live, and the store's from now on.
		return s.local.Settle(ctx, d.id, nil)
	}
	if err := s.payEnd(ctx, d, end); err != nil {
		return err
	}
	s.debts.paid(d)
	return nil
}

// payEnd tells how an exchange ended.
func (s *Store) payEnd(ctx context.Context, d *debt, end *ending) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if end.cancel {
		return s.store.Cancel(ctx, d.id)
	}
	return s.store.Settle(ctx, d.id, d.capped(end.actual))
}

// capped is what an exchange took, but no more of a limit than was left to force.
func (d *debt) capped(actual []int64) []int64 {
	if actual == nil || d.forced == nil {
		return actual
	}
	out := make([]int64, len(actual))
	for i, n := range actual {
		out[i] = n
		if d.forced[i] < min(n, d.charges[i].Cost) {
			out[i] = min(n, d.forced[i])
		}
	}
	return out
}

// force admits an exchange of the outage. Window limits take no more of an
// outage than they hold.
func (s *Store) force(ctx context.Context, d *debt, spent map[account]int64) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	charges := slices.Clone(d.charges)
	taken := s.debts.taken(d)
	d.forced = make([]int64, len(charges))
	for i := range charges {
		c := &charges[i]
		if c.Limit.Unit != ratelimit.Concurrency {
			at := account{c.Limit.ID(), c.Scope}
			c.Cost = min(taken[i], max(0, c.Limit.Max-spent[at]))
			spent[at] += c.Cost
		}
		d.forced[i] = c.Cost
	}
	_, err := s.store.Admit(ctx, d.id, charges, ratelimit.AdmitOptions{Force: true})
	return err
}
