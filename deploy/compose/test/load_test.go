//go:build compose

package composetest

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"
)

// load is what many clients do while something happens to the site.
type load struct {
	stop   context.CancelFunc
	done   sync.WaitGroup
	mu     sync.Mutex
	good   []answer // of requests with a key
	denied []answer // of requests without one
	stream []answer // that were under way before
}

const (
	streams    = 8
	streamTime = 10 * time.Second // that each stream takes
	clients    = 6
)

// startLoad begins streams, and then requests without end.
func startLoad(t *testing.T) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{stop: cancel}
	t.Cleanup(cancel)
	for range streams {
		l.run(&l.stream, func() answer { return chat(context.Background(), busyKey, "tokens=200,pace=50ms,ttft=0s", true) })
	}
	time.Sleep(500 * time.Millisecond) // they have begun
	for range clients {
		l.repeat(ctx, &l.good, func() answer { return chat(context.Background(), busyKey, "tokens=2,pace=5ms,ttft=0s", false) })
	}
	l.repeat(ctx, &l.denied, func() answer { return chat(context.Background(), "", "tokens=2", false) })
	time.Sleep(500 * time.Millisecond) // some of them were served before
	return l
}

// run does one request beside the others.
func (l *load) run(list *[]answer, request func() answer) {
	l.done.Go(func() {
		a := request()
		l.mu.Lock()
		defer l.mu.Unlock()
		*list = append(*list, a)
	})
}

// repeat does requests, a few dozen a second, until ctx ends.
func (l *load) repeat(ctx context.Context, list *[]answer, request func() answer) {
	l.done.Go(func() {
		for ctx.Err() == nil {
			a := request()
			l.mu.Lock()
			*list = append(*list, a)
			l.mu.Unlock()
			time.Sleep(20 * time.Millisecond)
		}
	})
}

// end waits until every request has its answer.
func (l *load) end() {
	l.stop()
	l.done.Wait()
}

// failures are the answers that are not 200, and how long it took from the beginning
// of the first to the end of the last of them.
func failures(list []answer) (failed []answer, took time.Duration) {
	var first, last time.Time
	for _, a := range list {
		if a.status == http.StatusOK && a.err == nil {
			continue
		}
		failed = append(failed, a)
		if first.IsZero() || a.began.Before(first) {
			first = a.began
		}
		if a.ended.After(last) {
			last = a.ended
		}
	}
	return failed, last.Sub(first)
}
