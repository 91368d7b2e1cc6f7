package simulator

import (
	"context"
	"time"
)

// pacer waits, with one timer for all its waits. The zero value is ready.
type pacer struct{ timer *time.Timer }

// until waits until t. It fails if ctx is done before, or already.
func (p *pacer) until(ctx context.Context, t time.Time) error {
	d := time.Until(t)
	if d <= 0 {
		return ctx.Err()
	}
	if p.timer == nil {
		p.timer = time.NewTimer(d)
	} else {
		p.timer.Reset(d)
	}
	select {
	case <-p.timer.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stop releases the timer.
func (p *pacer) stop() {
	if p.timer != nil {
		p.timer.Stop()
	}
}
