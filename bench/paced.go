package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
)

// lane is a connection of a paced load. Requests that are due go through one that
// is idle.
type lane struct {
	client client
	due    chan time.Time // of the request that was sent; closed after the last
}

// driveAtRate sends count requests of w to addr, w.rate a second, each when it is
// due, whether those before it are answered or not. Each is due at some moment of
// its share of the second: at equal intervals they would keep step with the clock
// by which the kernel accounts for time. What an answer took counts
// from when its request was due: one that had to wait, because all connections were
// busy or the client was late, waited. All connections end with it.
func driveAtRate(ctx context.Context, addr string, w *workload, count int) (timing, error) {
	// One more than there are processors: the sender sits in a system call
	// between requests, and would keep a processor from the others.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + 1))
	lanes := make([]*lane, w.conns)
	idle := make(chan *lane, w.conns)
	for i := range lanes {
		lanes[i] = &lane{client: client{addr: addr}, due: make(chan time.Time, 1)}
		defer lanes[i].client.close()
		if err := lanes[i].client.connect(); err != nil {
			return timing{}, err
		}
		idle <- lanes[i]
	}
	parts := make([]timing, w.conns)
	late := make([]time.Duration, 0, count)
	group, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	for i, l := range lanes {
		group.Go(func() error { return parts[i].answers(l, w, idle) })
	}
	group.Go(func() (err error) {
		late, err = sendAtRate(ctx, w, count, start, idle, late)
		for _, l := range lanes {
			close(l.due)
		}
		return err
	})
	err := group.Wait()
	t := timing{wall: time.Since(start), late: late}
	for i := range parts {
		t.join(&parts[i])
	}
	return t, err
}

// sendAtRate sends requests when they are due, from a thread of its own, and tells
// how late each was.
func sendAtRate(ctx context.Context, w *workload, count int, start time.Time, idle <-chan *lane, late []time.Duration) ([]time.Duration, error) {
	wakePrecisely()
	each := time.Second / time.Duration(w.rate)
	within := rand.New(rand.NewPCG(1, 1)) // the same for all chains
	for i := range count {
		due := start.Add(time.Duration(i)*each + time.Duration(within.Int64N(int64(each))))
		sleepUntil(due)
		late = append(late, time.Since(due))
		select {
		case l := <-idle:
			if err := l.send(w.request, due); err != nil {
				return late, fmt.Errorf("%s: %w", w.name, err)
			}
		case <-ctx.Done():
			return late, ctx.Err()
		}
	}
	return late, nil
}

func (l *lane) send(request []byte, due time.Time) error {
	if err := l.client.connect(); err != nil { // again, if the server closed it
		return err
	}
	if err := l.client.send(request); err != nil {
		return err
	}
	l.due <- due
	return nil
}

// answers reads those of one lane.
func (t *timing) answers(l *lane, w *workload, idle chan<- *lane) error {
	for due := range l.due {
		r, err := l.client.receive(due)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		if err := t.take(w, &r); err != nil {
			return err
		}
		idle <- l
	}
	return nil
}
