package main

import (
	"context"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// ends are what tells a program to end. The second time it is to end at once: it is not
// left to the system's own doing, as that does nothing where the signal was ignored when
// the program began, as in the background of a script, and in the first process of a
// container.
type ends struct {
	stop context.Context // ends at the first signal
	cut  context.Context // ends at the second one

	orderly *atomic.Bool // the program has something to put in order when it is cut
}

// lastWords is for how long a program may put in order what it has begun, once it is to
// end at once.
const lastWords = 3 * time.Second

// interrupted is the exit code of a program that did not end what it did, as shells have
// it of one that Ctrl-C ends.
const interrupted = 128 + int(syscall.SIGINT)

// awaitEnds waits for signals until release is called.
func awaitEnds() (e ends, release func()) {
	signals := make(chan os.Signal, 3)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	stop, stopNow := context.WithCancel(context.Background())
	cut, cutNow := context.WithCancel(context.Background())
	released, orderly := make(chan struct{}), &atomic.Bool{}
	go func() {
		for _, step := range []func(){stopNow, cutNow} {
			select {
			case <-released:
				return
			case <-signals:
				step()
			}
		}
		if orderly.Load() {
			select {
			case <-released:
				return
			case <-signals: // a third one
			case <-time.After(lastWords):
			}
		}
		os.Exit(interrupted)
	}()
	return ends{stop, cut, orderly}, func() {
		close(released)
		signal.Stop(signals)
		stopNow()
		cutNow()
	}
}
