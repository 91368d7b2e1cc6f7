package redisstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weir-gateway/weir/ratelimit"
)

// maxRenew is how many exchanges one script renews: it lets nobody else wait for
// longer than a millisecond.
const maxRenew = 64

// The codes that scripts answer with.
const (
	codeNo       = 0 // refused; unknown, or ended before
	codeYes      = 1
	codeTooLarge = 2
	codeTooLate  = 3
	codeApart    = 4 // the clocks are
	codeMiscount = 5 // amounts for other charges
)

// Store is a ratelimit.Store in Redis. New makes it.
type Store struct {
	client  redis.UniversalClient
	batcher *batcher
	scripts scripts
	offset  *offset
	timeout time.Duration
	virtual func() time.Time // nil but in tests
}

var _ ratelimit.Store = (*Store)(nil)

// New answers the store of the Redis that opts.URL names. It connects when it is
// first used, so that its errors are those of the options alone; see Ping.
func New(opts Options) (*Store, error) {
	opts.setDefaults()
	t, err := opts.parse()
	if err != nil {
		return nil, err
	}
	client := t.connect(&opts)
	return &Store{
		client:  client,
		batcher: &batcher{client: client, timeout: opts.Timeout, most: opts.Connections, room: opts.MaxQueue},
		scripts: newScripts(opts.lives),
		offset:  newOffset(),
		timeout: opts.Timeout,
		virtual: opts.virtual,
	}, nil
}

// LastReply is when Redis answered a call last; before the first, the Unix epoch.
func (s *Store) LastReply() time.Time { return time.Unix(0, s.batcher.replied.Load()) }

// Close waits for the calls that were sent, and closes the connections. Calls
// that come later fail with ratelimit.ErrUnavailable.
func (s *Store) Close() error {
	s.batcher.close()
	return s.client.Close()
}

// Ping tells whether Redis can be used: it is reached, and lets us in.
func (s *Store) Ping(ctx context.Context) error {
	_, err := s.Peek(ctx, nil)
	return err
}

// Settle replaces a reservation by the truth; see ratelimit.Store.
func (s *Store) Settle(ctx context.Context, id ratelimit.ID, actual []int64) error {
	args := []any{s.now(), id.String(), ""}
	if actual != nil {
		if err := ratelimit.CheckActual(actual, len(actual)); err != nil {
			return fmt.Errorf("settle %s: %w", id, err)
		}
		args[2] = len(actual)
		for _, n := range actual {
			args = append(args, n)
		}
	}
	reply, err := s.run(context.WithoutCancel(ctx), s.scripts.settle, []string{receiptKey(id), timeKey}, args)
	if err == nil && reply[0] == codeMiscount {
		err = fmt.Errorf("%d amounts are not as many as its charges", len(actual))
	}
	if err != nil {
		return fmt.Errorf("settle %s: %w", id, err)
	}
	return nil
}

// Cancel gives a reservation back, or sees to it that it is not made; see
// ratelimit.Store.
func (s *Store) Cancel(ctx context.Context, id ratelimit.ID) error {
	args := []any{s.now(), id.String()}
	if _, err := s.run(context.WithoutCancel(ctx), s.scripts.cancel, []string{receiptKey(id), timeKey}, args); err != nil {
		return fmt.Errorf("cancel %s: %w", id, err)
	}
	return nil
}

// Renew extends leases and receipts; see ratelimit.Store. Each ID is a step of
// its own. With an error, lost tells of those that were renewed before it.
func (s *Store) Renew(ctx context.Context, ids []ratelimit.ID) (lost []ratelimit.ID, err error) {
	for len(ids) > 0 {
		n := min(len(ids), maxRenew)
		keys, args := []string{timeKey}, []any{s.now()}
		for _, id := range ids[:n] {
			keys, args = append(keys, receiptKey(id)), append(args, id.String())
		}
		reply, err := s.run(ctx, s.scripts.renew, keys, args)
		if err != nil {
			return lost, fmt.Errorf("renew %d exchanges: %w", n, err)
		}
		for _, i := range reply[2:] {
			lost = append(lost, ids[i])
		}
		ids = ids[n:]
	}
	return lost, nil
}

// Peek answers states; see ratelimit.Store.
func (s *Store) Peek(ctx context.Context, charges []ratelimit.Charge) ([]ratelimit.State, error) {
	p := plan{keys: []string{timeKey}, args: []any{s.now()}}
	if err := p.add(charges, s.clock()); err != nil {
		return nil, fmt.Errorf("peek: %w", err)
	}
	reply, err := s.run(ctx, s.scripts.peek, p.keys, p.args)
	if err == nil && reply[0] == codeApart {
		err = errApart
	}
	if err != nil {
		return nil, fmt.Errorf("peek: %w", err)
	}
	return states(make([]ratelimit.State, 0, len(charges)), reply[2:], charges), nil
}

// run has a script run, and learns the server's time from its reply.
func (s *Store) run(ctx context.Context, sc *script, keys []string, args []any) ([]int64, error) {
	return s.runUntil(ctx, sc, keys, args, time.Now().Add(s.timeout))
}

func (s *Store) runUntil(
	ctx context.Context, sc *script, keys []string, args []any, deadline time.Time,
) ([]int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := &call{script: sc, keys: keys, args: args}
	if err := s.batcher.do(ctx, c, deadline); err != nil {
		return nil, err
	}
	if len(c.reply) < 2 {
		return nil, fmt.Errorf("script %s answered %v: %w", sc.name, c.reply, errReply)
	}
	s.offset.learn(time.Duration(c.reply[1])*time.Microsecond, c.began, c.arrived)
	return c.reply, nil
}

var (
	errReply = errors.New("want a code and the time")
	// errApart comes before anything is written.
	errApart = fmt.Errorf("%w: its clock is a calendar period apart from this machine's", ratelimit.ErrUnavailable)
)

// now is the virtual time that scripts take for the server's, in µs; "" for none.
func (s *Store) now() any {
	if s.virtual == nil {
		return ""
	}
	return s.virtual().UnixMicro()
}

// clock is the time here, of which calendars take the period.
func (s *Store) clock() time.Time {
	if s.virtual == nil {
		return time.Now()
	}
	return s.virtual()
}

// states appends what a reply tells of the charges: used and reset of each.
func states(to []ratelimit.State, reply []int64, charges []ratelimit.Charge) []ratelimit.State {
	for i := range charges {
		used, reset := reply[2*i], time.Duration(reply[2*i+1])*time.Microsecond
		to = append(to, ratelimit.State{Used: used, Remaining: max(0, charges[i].Limit.Max-used), Reset: reset})
	}
	return to
}
