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

// Lines are a log's way to its file. Those that may wait do so for others, up to the next tenth of a
// second: each write wakes the thread by which Go's runtime looks after those that wait in
// system calls, and it goes on to look every 20 µs. All others, and warnings and errors in any
// case, are written at once, after those that wait.
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

// Write writes whole lines at once.
func (l *Lines) Write(p []byte) (int, error) { return l.write(p, false) }

// Patient takes lines that may wait. What it could not write later is lost.
func (l *Lines) Patient() zerolog.LevelWriter { return patient{l} }

// patient are Lines of which those that tell of what is well may wait.
type patient struct{ *Lines }

func (l patient) WriteLevel(level zerolog.Level, p []byte) (int, error) {
	return l.write(p, level < zerolog.WarnLevel)
}

func (l *Lines) write(p []byte, mayWait bool) (int, error) {
	if l.add(p, mayWait) {
		return len(p), nil
	}
	if err := l.Flush(); err != nil {
		return 0, err
	}
	return len(p), nil
}

// add tells whether all may wait that has to be written.
func (l *Lines) add(p []byte, mayWait bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, p...)
	if !mayWait || len(l.waiting) > lineRoom {
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
