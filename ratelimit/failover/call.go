package failover

import (
	"context"
	"errors"
	"time"
)

const (
	// patience bounds a call of a store that is not silent, but slow.
	patience = 2 * time.Second
	// looks is how often a call that waits looks around within the timeout.
	looks = 5
	// starved is how late a look is when this process has too little of the
	// processor.
	starved = 2 * time.Millisecond
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
	opened := s.breaker.whenOpen()
	w := s.newWait()
	defer w.timer.Stop()
	for {
		select {
		case o := <-done:
			s.note(op, o.err)
			return o.value, o.err
		case <-w.timer.C:
			if len(done) > 0 || ctx.Err() == nil && w.goOn() {
				continue
			}
			s.note(op, errSilent)
		case <-opened: // others have found out
		}
		var none T
		return none, errSilent
	}
}

// wait is how long a call waits for a store that says nothing. A machine without a
// processor to spare is no sign that the store is away, and to decide without it
// then would be to forget the limits just when they matter: such a silence is
// excused.
type wait struct {
	s       *Store
	timer   *time.Timer
	begun   time.Time
	due     time.Time
	looks   int // within this silence
	excuses int // among them
}

func (s *Store) newWait() *wait {
	step, now := s.timeout/looks, time.Now()
	return &wait{s: s, timer: time.NewTimer(step), begun: now, due: now.Add(step)}
}

// goOn looks around when the timer has fired, and tells whether to wait on; if so
// it sets the timer again.
func (w *wait) goOn() bool {
	now := time.Now()
	w.looks++
	if now.Sub(w.due) > starved || w.s.busy() {
		w.excuses++
	}
	if w.looks >= looks {
		if 2*w.excuses < w.looks && !w.talks(now) {
			return false
		}
		w.looks, w.excuses = 0, 0
	}
	step := w.s.timeout / looks
	w.timer.Reset(step)
	w.due = now.Add(step)
	return true
}

// talks tells whether the store has answered others since the call began, and
// within the timeout.
func (w *wait) talks(now time.Time) bool {
	t, ok := w.s.store.(talker)
	if !ok {
		return false
	}
	last := t.LastReply()
	return last.After(w.begun) && now.Sub(last) < w.s.timeout
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
