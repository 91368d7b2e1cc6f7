package redisstore

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weir-gateway/weir/ratelimit"
)

// maxBatch bounds the calls of one round trip, so that the last of them does not
// wait for long.
const maxBatch = 128

// call is one run of a script.
type call struct {
	script *script
	keys   []string
	args   []any

	sent bool          // guarded by batcher.mu; from then on it may have taken effect
	done chan struct{} // closed once the following are set

	reply          []int64
	err            error
	began, arrived time.Time // of the round trip
}

// batcher sends calls to Redis. The first goes at once. What comes while all
// connections are in use waits, and goes together with the rest as soon as one
// of them is free: under load the round trips grow, not the wait.
type batcher struct {
	client  redis.UniversalClient
	timeout time.Duration // of a round trip
	most    int           // round trips at a time
	room    int           // calls that may wait

	replied atomic.Int64 // when a reply came last, in ns since the Unix epoch

	mu      sync.Mutex
	waiting []*call
	trips   int
	closed  bool
	idle    sync.WaitGroup // the trips
}

// do runs a call and waits for its end, at most until the deadline. Until it is
// sent it also ends with ctx; from then on its outcome is worth waiting for.
func (b *batcher) do(ctx context.Context, c *call, deadline time.Time) error {
	c.done = make(chan struct{})
	if err := b.enqueue(c); err != nil {
		return err
	}
	patience := time.NewTimer(time.Until(deadline))
	defer patience.Stop()
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		if b.withdraw(c) {
			return ctx.Err()
		}
	case <-patience.C:
		if b.withdraw(c) {
			return fmt.Errorf("%w: no connection was free in time", ratelimit.ErrUnavailable)
		}
		return fmt.Errorf("%w: %w", ratelimit.ErrUnknown, context.DeadlineExceeded)
	}
	select {
	case <-c.done:
		return c.err
	case <-patience.C:
		return fmt.Errorf("%w: %w", ratelimit.ErrUnknown, context.DeadlineExceeded)
	}
}

// enqueue has the call sent now or soon.
func (b *batcher) enqueue(c *call) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return fmt.Errorf("%w: the store is closed", ratelimit.ErrUnavailable)
	case len(b.waiting) >= b.room:
		return fmt.Errorf("%w: %d calls are waiting already", ratelimit.ErrUnavailable, len(b.waiting))
	}
	b.waiting = append(b.waiting, c)
	if b.trips < b.most {
		b.trips++
		b.idle.Go(b.travel)
	}
	return nil
}

// withdraw takes back a call, unless it was sent.
func (b *batcher) withdraw(c *call) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.sent {
		return false
	}
	for i := range b.waiting {
		if b.waiting[i] == c {
			b.waiting = append(b.waiting[:i], b.waiting[i+1:]...)
			break
		}
	}
	return true
}

// travel makes round trips until nothing waits.
func (b *batcher) travel() {
	for batch := b.load(); batch != nil; batch = b.load() {
		b.trip(batch)
		for _, c := range batch {
			close(c.done)
		}
	}
}

// load takes what waits; nil ends the traveller.
func (b *batcher) load() []*call {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(b.waiting), maxBatch)
	if n == 0 {
		b.trips--
		b.waiting = nil
		return nil
	}
	batch := b.waiting[:n:n]
	b.waiting = b.waiting[n:]
	for _, c := range batch {
		c.sent = true
	}
	return batch
}

// trip runs the calls of a batch; those whose script the server does not know
// once more, with its text.
func (b *batcher) trip(batch []*call) {
	ctx, cancel := context.WithTimeout(context.Background(), b.timeout)
	defer cancel()
	b.pipeline(ctx, batch, false)
	var again []*call
	for _, c := range batch {
		if isNoScript(c.err) {
			again = append(again, c)
		}
	}
	if again != nil {
		b.pipeline(ctx, again, true)
	}
	for _, c := range batch {
		c.err = classify(c.err)
	}
}

// pipeline sends calls together. With teach, each brings the text of its script:
// another SCRIPT FLUSH may come between any two of them.
func (b *batcher) pipeline(ctx context.Context, calls []*call, teach bool) {
	pipe := b.client.Pipeline()
	cmds := make([]*redis.Cmd, len(calls))
	began := time.Now()
	for i, c := range calls {
		verb, text := "evalsha", c.script.sha
		if teach {
			verb, text = "eval", c.script.text
		}
		cmds[i] = command(ctx, verb, text, c)
		_ = pipe.Process(ctx, once{cmds[i]}) // only queues it
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	arrived := time.Now()
	for i, c := range calls {
		c.began, c.arrived = began, arrived
		c.reply, c.err = cmds[i].Int64Slice()
		if c.err == nil {
			b.replied.Store(arrived.UnixNano())
		}
	}
}

func command(ctx context.Context, verb, text string, c *call) *redis.Cmd {
	args := make([]any, 0, 3+len(c.keys)+len(c.args))
	args = append(args, verb, text, len(c.keys))
	for _, key := range c.keys {
		args = append(args, key)
	}
	cmd := redis.NewCmd(ctx, append(args, c.args...)...)
	cmd.SetFirstKeyPos(3)
	return cmd
}

// once is a command that the client must not send again on its own account when
// no answer comes: whether it has taken effect is told to the caller.
type once struct{ *redis.Cmd }

// NoRetry is asked by the cluster client.
func (once) NoRetry() bool { return true }

// close lets what was sent come back, and refuses the rest.
func (b *batcher) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.idle.Wait()
}
