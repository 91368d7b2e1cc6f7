package memstore

import (
	"context"
	"fmt"
	"time"

	"github.com/weir-gateway/weir/ratelimit"
)

// Admit decides all charges or none; see ratelimit.Store. It allocates nothing
// once the accounts exist and opts.States is large enough.
func (s *Store) Admit(
	ctx context.Context, id ratelimit.ID, charges []ratelimit.Charge, opts ratelimit.AdmitOptions,
) (ratelimit.Decision, error) {
	d, err := s.admit(ctx, id, charges, opts)
	if err != nil {
		return ratelimit.Decision{Refused: -1}, fmt.Errorf("admit %s: %w", id, err)
	}
	return d, nil
}

func (s *Store) admit(
	ctx context.Context, id ratelimit.ID, charges []ratelimit.Charge, opts ratelimit.AdmitOptions,
) (d ratelimit.Decision, err error) {
	if err := ctx.Err(); err != nil {
		return d, err
	}
	if err := ratelimit.CheckCharges(charges); err != nil {
		return d, err
	}
	sh, now := s.enter(id)
	defer sh.mu.Unlock()
	switch {
	case sh.byID[id] != nil:
		return ratelimit.Decision{Admitted: true, Refused: -1, States: s.states(now, charges, opts.States)}, nil
	case !opts.NotAfter.IsZero() && now > s.time.at(opts.NotAfter):
		return d, ratelimit.ErrTooLate
	case sh.open.len >= s.maxOpen:
		return d, fmt.Errorf("%w: %d exchanges are open", ratelimit.ErrFull, s.maxOpen*shards)
	}
	return s.decide(sh, id, now, charges, opts)
}

// decide asks the limits, and files the receipt if they admit.
func (s *Store) decide(
	sh *shard, id ratelimit.ID, now time.Duration, charges []ratelimit.Charge, opts ratelimit.AdmitOptions,
) (ratelimit.Decision, error) {
	r := sh.blank(id)
	s.route(r, charges)
	d, err := s.charge(sh, r, now, charges, opts)
	if err != nil && s.maySweep(now) {
		s.sweep(now, now)
		d, err = s.charge(sh, r, now, charges, opts)
	}
	if d.Admitted {
		sh.file(r, now+ratelimit.ReceiptTTL)
	} else {
		sh.recycle(r)
	}
	return d, err
}

// route notes in which stripe each charge is counted.
func (s *Store) route(r *receipt, charges []ratelimit.Charge) {
	var stripe uint8
	for i := range charges {
		if i == 0 || charges[i].Scope != charges[i-1].Scope {
			stripe = s.stripeOf(charges[i].Scope)
		}
		r.stripes = r.stripes.with(stripe)
		r.charges = append(r.charges, charge{stripe: stripe, cost: charges[i].Cost})
	}
}

// charge is the one step in which all charges are made or none. It fails only
// with ErrFull, and then it has changed nothing.
func (s *Store) charge(
	sh *shard, r *receipt, now time.Duration, charges []ratelimit.Charge, opts ratelimit.AdmitOptions,
) (ratelimit.Decision, error) {
	s.lock(r.stripes)
	defer s.unlock(r.stripes)
	missing := s.lookUp(sh, r, charges)
	d := ratelimit.Decision{Admitted: true, Refused: -1}
	if !opts.Force {
		d = ratelimit.Decide(now, charges, sh.tallies)
	}
	if d.Admitted {
		if missing > 0 && !s.openMissing(sh, r, now, charges, missing) {
			return ratelimit.Decision{}, fmt.Errorf("%w: %d limits of scopes are in use", ratelimit.ErrFull, s.maxAccounts)
		}
		for i := range r.charges {
			c := &r.charges[i]
			c.account.pins++
			c.account.used = now
			c.mark = c.account.tally.Charge(now, r.id, c.cost, ratelimit.LeaseTTL)
		}
	}
	d.States = opts.States[:0]
	for i, t := range sh.tallies {
		d.States = append(d.States, t.State(now, charges[i].Limit.Max))
	}
	return d, nil
}

// lookUp finds the accounts that exist, and answers how many do not.
func (s *Store) lookUp(sh *shard, r *receipt, charges []ratelimit.Charge) (missing int) {
	sh.tallies = sh.tallies[:0]
	var first *account
	for i := range r.charges {
		c := &r.charges[i]
		if i == 0 || charges[i].Scope != charges[i-1].Scope {
			first = s.stripes[c.stripe].byScope[charges[i].Scope]
		}
		c.account = first.find(charges[i].Limit.ID())
		if c.account == nil {
			missing++
		}
		sh.tallies = append(sh.tallies, c.account.held())
	}
	return missing
}

// openMissing makes the accounts that lookUp did not find, or answers false and
// makes none, where they would be too many. Idle ones leave for each that
// comes, but for those that this request is about to charge.
func (s *Store) openMissing(
	sh *shard, r *receipt, now time.Duration, charges []ratelimit.Charge, missing int,
) bool {
	r.pin(1)
	defer r.pin(-1)
	for i := range r.charges {
		if r.charges[i].account == nil {
			s.accounts.Add(-int64(s.stripes[r.charges[i].stripe].glance(now, now-linger, 2)))
		}
	}
	if s.accounts.Add(int64(missing)) > s.maxAccounts {
		s.accounts.Add(-int64(missing))
		return false
	}
	for i := range r.charges {
		if c := &r.charges[i]; c.account == nil {
			c.account = s.stripes[c.stripe].open(&charges[i])
			c.account.pins++
			sh.tallies[i] = &c.account.tally
		}
	}
	return true
}

// maySweep tells whether the store may be searched for idle accounts once more.
func (s *Store) maySweep(now time.Duration) bool {
	next := s.nextSweep.Load()
	return int64(now) >= next && s.nextSweep.CompareAndSwap(next, int64(now+sweepEvery))
}

// states answers the state of each charge's limit, appended to scratch[:0].
func (s *Store) states(now time.Duration, charges []ratelimit.Charge, scratch []ratelimit.State) []ratelimit.State {
	var set stripeSet
	for i := range charges {
		set = set.with(s.stripeOf(charges[i].Scope))
	}
	s.lock(set)
	defer s.unlock(set)
	states := scratch[:0]
	for i := range charges {
		c := &charges[i]
		a := s.stripes[s.stripeOf(c.Scope)].byScope[c.Scope].find(c.Limit.ID())
		states = append(states, a.held().State(now, c.Limit.Max))
	}
	return states
}
