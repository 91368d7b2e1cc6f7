package failover

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/ratelimit/memstore"
)

// ErrClosed is returned by Admit when the store cannot be asked and a limit is
// Closed.
var ErrClosed = errors.New("the limit store cannot be asked")

// Policy is what a limit does while the store cannot be asked.
type Policy uint8

// The policies.
const (
	Local Policy = iota
	Open
	Closed
)

// String answers the policy's name in the configuration.
func (p Policy) String() string {
	switch p {
	case Open:
		return "open"
	case Closed:
		return "closed"
	case Local:
	}
	return "local"
}

// Mode is how an exchange was decided.
type Mode uint8

// The modes.
const (
	Shared Mode = iota // by the store
	Alone              // without it
)

// Events are told as they happen; each may be nil. They must not block.
type Events struct {
	Opened    func(err error)            // the store is not asked any more
	Recovered func(o Outage)             // the store answers again, and has been told what it is owed
	Dropped   func(exchanges int)        // debts that were dropped, for want of room
	Failed    func(op string, err error) // a call failed
}

// Outage is what happened while the store was away.
type Outage struct {
	Lasted time.Duration
	Debts  int // told to the store
}

// Options configure a Store. Store is required; the rest has defaults.
type Options struct {
	Store ratelimit.Store
	// Timeout is how long the store may be silent while a call waits for it; 20 ms
	// by default. A call that meets a longer silence counts as failed.
	Timeout time.Duration
	// ProbeEvery is how often a store that is away is tried; 250 ms by default.
	ProbeEvery time.Duration
	// MaxDebts bounds what is owed; 10 000 exchanges by default.
	MaxDebts int
	// Instance names this process among the replicas, which share Local limits
	// while the store is away; see ratelimit.ID.
	Instance uint64
	Events   Events
}

// Store passes calls on to a shared store, and decides without it when it has to.
// New makes it; Run keeps it.
type Store struct {
	store      ratelimit.Store
	timeout    time.Duration
	probeEvery time.Duration
	presence   *presence
	busy       func() bool
	events     Events

	breaker breaker
	local   *memstore.Store // counts Local limits, also those decided by nobody else
	shares  sync.Map        // *ratelimit.Limit and number of replicas to its share
	debts   debts
	mending chan struct{} // holds one while somebody mends
	alone   atomic.Int64  // exchanges decided without the store, in all
}

// New returns a Store.
func New(opts Options) *Store {
	s := &Store{
		store: opts.Store, presence: newPresence(opts.Instance), busy: busy, events: opts.Events,
		timeout:    cmp.Or(opts.Timeout, 20*time.Millisecond),
		probeEvery: cmp.Or(opts.ProbeEvery, 250*time.Millisecond),
		local:      memstore.New(memstore.Options{}),
		mending:    make(chan struct{}, 1),
	}
	s.breaker.opened = make(chan struct{})
	s.debts = debts{most: cmp.Or(opts.MaxDebts, 10_000), byID: map[ratelimit.ID]*debt{}}
	s.debts.dropped = func(n int) {
		if opts.Events.Dropped != nil {
			opts.Events.Dropped(n)
		}
	}
	return s
}

// Status tells whether the store is asked, and since when that is so.
type Status struct {
	Away  bool
	Since time.Time
	Debts int   // exchanges that are owed to the store
	Alone int64 // exchanges that were decided without it, since the start
	// Replicas is how many shared the store when it was last asked.
	Replicas int
}

// Status is for health checks and metrics.
func (s *Store) Status() Status {
	s.breaker.mu.Lock()
	st := Status{Away: s.breaker.open, Since: s.breaker.since}
	s.breaker.mu.Unlock()
	st.Debts, st.Alone, st.Replicas = s.debts.len(), s.alone.Load(), int(s.presence.n.Load())
	return st
}

// Admit decides an exchange, by the store if it can be asked, else by policies[i]
// for charges[i]. Its errors are those of ratelimit.Store that tell of the request
// (ErrTooLate, ErrFull, a bad charge), and ErrClosed.
func (s *Store) Admit(
	ctx context.Context, id ratelimit.ID, charges []ratelimit.Charge, policies []Policy, opts ratelimit.AdmitOptions,
) (ratelimit.Decision, Mode, error) {
	if err := ratelimit.CheckCharges(charges); err != nil {
		return ratelimit.Decision{Refused: -1}, Shared, err
	}
	asked := false
	if s.breaker.allows() {
		asked = true
		d, err := s.ask(ctx, id, charges, opts)
		if err == nil || ofRequest(err) {
			return d, Shared, err
		}
	}
	d, local, err := s.decideAlone(ctx, id, charges, policies)
	switch {
	case err == nil && d.Admitted:
		s.alone.Add(1)
		s.debts.admitted(id, charges, local)
	case asked:
		// The call that failed may have admitted it.
		s.debts.cancelled(id)
	}
	return d, Alone, err
}

// ask calls the store, for no longer than the timeout, and counts how it went.
func (s *Store) ask(
	ctx context.Context, id ratelimit.ID, charges []ratelimit.Charge, opts ratelimit.AdmitOptions,
) (ratelimit.Decision, error) {
	opts.NotAfter = time.Now().Add(patience)
	opts.States = nil // a call that is given up may write to it still
	return call(ctx, s, "admit", func(ctx context.Context) (ratelimit.Decision, error) {
		return s.store.Admit(ctx, id, charges, opts)
	})
}

// ofRequest tells errors that a request has of itself: the store did answer. A
// store that is full for everybody is away.
func ofRequest(err error) bool {
	return !errors.Is(err, ratelimit.ErrUnavailable) && (errors.Is(err, ratelimit.ErrTooLate) || errors.Is(err, ratelimit.ErrFull))
}

// decideAlone decides without the store, and answers which charges were counted
// in memory.
func (s *Store) decideAlone(
	ctx context.Context, id ratelimit.ID, charges []ratelimit.Charge, policies []Policy,
) (d ratelimit.Decision, at []int, err error) {
	d = ratelimit.Decision{Admitted: true, Refused: -1, States: make([]ratelimit.State, len(charges))}
	var local []ratelimit.Charge
	for i, c := range charges {
		switch policies[i] {
		case Closed:
			return ratelimit.Decision{Refused: -1}, nil, ErrClosed
		case Open:
			d.States[i] = ratelimit.State{Remaining: c.Limit.Max}
		case Local:
			c.Limit = s.share(c.Limit)
			local, at = append(local, c), append(at, i)
		}
	}
	if len(local) == 0 {
		return d, nil, nil
	}
	ld, err := s.local.Admit(context.WithoutCancel(ctx), id, local, ratelimit.AdmitOptions{})
	if err != nil {
		return ratelimit.Decision{Refused: -1}, nil, err
	}
	for _, j := range ld.Shadowed {
		d.Shadowed = append(d.Shadowed, at[j])
	}
	d.Admitted, d.RetryAfter, d.TooLarge = ld.Admitted, ld.RetryAfter, ld.TooLarge
	if ld.Refused >= 0 {
		d.Refused = at[ld.Refused]
	}
	for j, i := range at {
		d.States[i] = ld.States[j]
	}
	return d, at, nil
}

// Settle replaces a reservation by the truth, now or when the store is back. It
// never fails for want of the store.
func (s *Store) Settle(ctx context.Context, id ratelimit.ID, actual []int64) error {
	return s.end(ctx, "settle", id, &ending{actual: actual}, func(ctx context.Context) error {
		return s.store.Settle(ctx, id, actual)
	})
}

// Cancel gives a reservation back, as Settle settles it.
func (s *Store) Cancel(ctx context.Context, id ratelimit.ID) error {
	return s.end(ctx, "cancel", id, &ending{cancel: true}, func(ctx context.Context) error {
		return s.store.Cancel(ctx, id)
	})
}

func (s *Store) end(ctx context.Context, op string, id ratelimit.ID, e *ending, tell func(context.Context) error) error {
	if local, ok := s.debts.ended(id, e); ok {
		// Decided without the store, which is told the whole of it later.
		return s.endLocally(ctx, id, local, e)
	}
	if s.breaker.allows() && do(ctx, s, op, tell) == nil {
		return nil
	}
	s.debts.endedOnly(id, e)
	return nil
}

// endLocally ends what was counted in memory.
func (s *Store) endLocally(ctx context.Context, id ratelimit.ID, local []int, e *ending) error {
	switch {
	case e.cancel:
		return s.local.Cancel(ctx, id)
	case e.actual == nil:
		return s.local.Settle(ctx, id, nil)
	}
	actual := make([]int64, len(local))
	for j, i := range local {
		actual[j] = e.actual[i]
	}
	return s.local.Settle(ctx, id, actual)
}

// Renew extends the leases of live exchanges; see ratelimit.Store. Those that
// were decided without the store, and are owed to it still, are not lost.
func (s *Store) Renew(ctx context.Context, ids []ratelimit.ID) (lost []ratelimit.ID, err error) {
	var shared, alone []ratelimit.ID
	for _, id := range ids {
		if s.debts.owes(id) {
			alone = append(alone, id)
		} else {
			shared = append(shared, id)
		}
	}
	if _, err := s.local.Renew(ctx, alone); err != nil {
		return nil, err
	}
	if len(shared) == 0 || !s.breaker.allows() {
		return nil, nil
	}
	return call(ctx, s, "renew", func(ctx context.Context) ([]ratelimit.ID, error) {
		return s.store.Renew(ctx, shared)
	})
}

// PutBack admits a live exchange by force: the store had lost it.
func (s *Store) PutBack(ctx context.Context, id ratelimit.ID, charges []ratelimit.Charge) error {
	return do(ctx, s, "put back", func(ctx context.Context) error {
		_, err := s.store.Admit(ctx, id, charges, ratelimit.AdmitOptions{Force: true})
		return err
	})
}

// Peek answers states; see ratelimit.Store.
func (s *Store) Peek(ctx context.Context, charges []ratelimit.Charge) ([]ratelimit.State, error) {
	return call(ctx, s, "peek", func(ctx context.Context) ([]ratelimit.State, error) {
		return s.store.Peek(ctx, charges)
	})
}

// Reset forgets what window limits have counted; see ratelimit.Store.
func (s *Store) Reset(ctx context.Context, charges []ratelimit.Charge) error {
	return do(ctx, s, "reset", func(ctx context.Context) error { return s.store.Reset(ctx, charges) })
}

// shareKey names a limit divided by a number of replicas.
type shareKey struct {
	limit    *ratelimit.Limit
	replicas int
}

// share is the part of a limit that falls to one replica, at least 1.
func (s *Store) share(l *ratelimit.Limit) *ratelimit.Limit {
	n := int(s.presence.n.Load())
	if n == 1 {
		return l
	}
	key := shareKey{l, n}
	if part, ok := s.shares.Load(key); ok {
		return part.(*ratelimit.Limit)
	}
	part := *l
	part.Max = max(1, l.Max/int64(n))
	s.shares.Store(key, &part)
	return &part
}
