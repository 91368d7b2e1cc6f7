package failover

import (
	"context"
	"errors"
	"time"
)

const (
	// patience bounds a call of a store that is not silent, but slow.
	patience = 500 * time.Millisecond
	// starved is how late a timer is when this process has too little of the
	// processor: then it is not the store that is slow.
	starved = 3 * time.Millisecond
)

// errSilent is how a call fails that the store did not answer in time.
var errSilent = errors.New("the store does not answer")

// talker is implemented by stores that know when they were answered last.
type talker interface{ LastReply() time.Time }

// do is call for what answers nothing.
func do(ctx context.Context, s *Store, op string, f func(context.Context) error) error {
	_, err := call(ctx, s, op, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })
	return err
}

// call makes one call and waits for it as long as the store is not silent, whether
// or not the client is gone. A call that is given up goes on by itself; f must
// therefore write to nothing that the caller reads.
func call[T any](ctx context.Context, s *Store, op string, f func(context.Context) (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	done := make(chan outcome, 1)
	go func() {
		defer cancel()
		v, err := f(ctx)
		done <- outcome{v, err}
	}()
	timer := time.NewTimer(s.timeout)
	defer timer.Stop()
	due := time.Now().Add(s.timeout)
	for {
		select {
		case o := <-done:
			s.note(op, o.err)
			return o.value, o.err
		case now := <-timer.C:
			if ctx.Err() == nil && (now.Sub(due) > starved || s.talks(now)) {
				timer.Reset(s.timeout)
				due = time.Now().Add(s.timeout)
				continue
			}
			s.note(op, errSilent)
			var none T
			return none, errSilent
		}
	}
}

// talks tells whether the store has answered anybody within the timeout.
func (s *Store) talks(now time.Time) bool {
	t, ok := s.store.(talker)
	return ok && now.Sub(t.LastReply()) < s.timeout
}

// note counts how a call went.
func (s *Store) note(op string, err error) {
	ok := err == nil || ofRequest(err)
	if !ok && s.events.Failed != nil {
		s.events.Failed(op, err)
	}
	if s.breaker.note(time.Now(), ok) && s.events.Opened != nil {
		s.events.Opened(err)
	}
}
