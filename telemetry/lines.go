package telemetry

import (
	"io"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	lineWait = 100 * time.Millisecond // how long lines may wait for each other
	lineRoom = 32 << 10               // how many bytes of them
)

// Lines are a log's way to its file. A line that tells of what is well waits for others, up to the next
// tenth of a second: each write wakes the thread by which Go's runtime looks after those that wait
// in system calls, and it goes on to look every 20 µs. Warnings and errors are written at
// once, after those that wait.
type Lines struct {
	mu      sync.Mutex // guards what follows
	waiting []byte
	timer   *time.Timer // nil before the first line that waits
	armed   bool

	writing sync.Mutex // guards what follows; mu may be locked while it is held
	w       io.Writer
	spare   []byte
}

// NewLines returns lines to w. Who does not call Flush at the end loses those that wait.
func NewLines(w io.Writer) *Lines { return &Lines{w: w} }

// Write writes p at once.
func (l *Lines) Write(p []byte) (int, error) { return l.WriteLevel(zerolog.NoLevel, p) }

// WriteLevel takes a whole line of that level. It fails if one that is written at once, or that
// had no room to wait, could not be written.
func (l *Lines) WriteLevel(level zerolog.Level, p []byte) (int, error) {
	if l.add(p, level >= zerolog.WarnLevel) {
		return len(p), nil
	}
	if err := l.Flush(); err != nil {
		return 0, err
	}
	return len(p), nil
}

// add tells whether what waits may wait.
func (l *Lines) add(p []byte, urgent bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, p...)
	if urgent || len(l.waiting) > lineRoom {
		return false
	}
	if !l.armed {
		l.armed = true
		now := time.Now()
		next := now.Truncate(lineWait).Add(lineWait).Sub(now) // together with all else that is done now and then
		if l.timer == nil {
			l.timer = time.AfterFunc(next, func() { _ = l.Flush() })
		} else {
			l.timer.Reset(next)
		}
	}
	return true
}

// Flush writes what waits.
func (l *Lines) Flush() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	lines := l.take()
	l.spare = lines[:0]
	if len(lines) == 0 {
		return nil
	}
	_, err := l.w.Write(lines)
	return err
}

// take has the next lines wait in spare.
func (l *Lines) take() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.waiting
	l.waiting, l.armed = l.spare, false
	return lines
}
