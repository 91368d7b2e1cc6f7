// Package ledger writes the usage ledger: one JSON line for each request that
// reached a decision, refusals included; and reads and sums it.
//
// Lines are written by one goroutine, off the path of the answers, in batches of a
// tenth of a second, each of whole lines: a process that is killed loses the last
// batch, and rotation never splits a line. The goroutine sleeps while there is nothing to
// write, and is not woken for every record. A caller waits only when [queue] records are unwritten: a ledger that drops lines is no ledger. While a disk is full up to
// [backlog] bytes of lines wait for it; those beyond are lost, and counted.
package ledger

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

const (
	queue      = 8192
	flushAfter = 100 * time.Millisecond
	flushSize  = 64 << 10 // bytes that are not made to wait for others
	backlog    = 16 << 20
)

// Stdout as Options.File is the standard output.
const Stdout = "-"

// Options say where the ledger is.
type Options struct {
	File     string // or Stdout
	MaxBytes int64  // of the file, before it is put aside; 0 is no limit
	Keep     int    // files that were put aside; 0 keeps all
}

// Ledger writes records. A nil Ledger discards them.
type Ledger struct {
	records chan Record
	due     *time.Timer   // when the records that wait are to be written,
	armed   atomic.Bool   // unless it is not set
	wake    chan struct{} // there is something to do at once
	reopen  chan struct{}
	done    chan struct{}
	lost    atomic.Int64
	file    io.WriteCloser
	log     zerolog.Logger

	// Owned by run.
	lines   []byte // not written yet
	failing bool
	since   int64 // lines that were lost since it fails
}

// Open opens a ledger. Its file is appended to, and made if need be, readable by its
// owner.
func Open(o Options, log zerolog.Logger) (*Ledger, error) {
	if o.File == Stdout {
		return New(unclosed{os.Stdout}, log), nil
	}
	f, err := openFile(o, log)
	if err != nil {
		return nil, err
	}
	return New(f, log), nil
}

// unclosed is a file that is not the ledger's to close.
type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }

// New writes to w, and closes it at the end. What w does not take is given to it
// again, from where it stopped.
func New(w io.WriteCloser, log zerolog.Logger) *Ledger {
	l := &Ledger{
		records: make(chan Record, queue), due: time.NewTimer(flushAfter), wake: make(chan struct{}, 1),
		reopen: make(chan struct{}, 1), done: make(chan struct{}), file: w, log: log,
	}
	go l.run()
	return l
}

// Write hands a record over. It must not be called after Close.
func (l *Ledger) Write(r Record) {
	if l == nil {
		return
	}
	if len(l.records) > queue/2 {
		l.hurry()
	}
	l.records <- r
	l.arm()
}

// arm has what waits written soon: when a tenth of a second is over, as what else looks up now
// and then does, so that the process wakes up once for all of it.
func (l *Ledger) arm() {
	if l.armed.CompareAndSwap(false, true) {
		now := time.Now()
		l.due.Reset(now.Truncate(flushAfter).Add(flushAfter).Sub(now))
	}
}

// hurry has it written now.
func (l *Ledger) hurry() {
	select {
	case l.wake <- struct{}{}:
	default: // it is about to be
	}
}

// Reopen has the file opened again by its name, as after it was moved away.
func (l *Ledger) Reopen() {
	if l == nil {
		return
	}
	select {
	case l.reopen <- struct{}{}:
	default: // it is about to be
	}
}

// Lost is how many lines could not be written.
func (l *Ledger) Lost() int64 {
	if l == nil {
		return 0
	}
	return l.lost.Load()
}

// Close writes what is left and closes the file. It fails if lines were left over.
func (l *Ledger) Close() error {
	if l == nil {
		return nil
	}
	close(l.records)
	l.hurry()
	<-l.done
	if err := l.file.Close(); err != nil {
		return fmt.Errorf("close ledger: %w", err)
	}
	if len(l.lines) > 0 {
		return fmt.Errorf("close ledger: %d bytes of lines could not be written", len(l.lines))
	}
	return nil
}

// run is the only user of the file until done is closed.
func (l *Ledger) run() {
	defer close(l.done)
	defer l.due.Stop()
	for {
		select {
		case <-l.due.C:
		case <-l.wake:
		case <-l.reopen:
			l.take()
			if f, ok := l.file.(*file); ok {
				f.reopen()
			}
			continue
		}
		if !l.take() {
			return
		}
	}
}

// take writes the records that wait, and tells whether there may be more.
func (l *Ledger) take() (open bool) {
	l.armed.Store(false) // a record that comes now sets the timer anew
	defer func() {
		l.flush()
		if len(l.lines) > 0 {
			l.arm() // once more
		}
	}()
	for {
		select {
		case r, ok := <-l.records:
			if !ok {
				return false
			}
			l.add(&r)
		default:
			return true
		}
	}
}

// add appends a line to those that wait.
func (l *Ledger) add(r *Record) {
	text, err := json.Marshal(r)
	if err != nil {
		l.log.Error().Err(err).Str("request_id", r.RequestID).Msg("a line of the usage ledger cannot be encoded")
	}
	if err != nil || len(l.lines)+len(text) > backlog {
		l.lost.Add(1)
		l.since++
		return
	}
	l.lines = append(append(l.lines, text...), '\n')
	if len(l.lines) >= flushSize && !l.failing {
		l.flush()
	}
}

// flush writes the lines that wait. It says once that this fails, and once that it
// works again.
func (l *Ledger) flush() {
	if len(l.lines) == 0 {
		return
	}
	n, err := l.file.Write(l.lines)
	l.lines = l.lines[:copy(l.lines, l.lines[n:])]
	switch {
	case err != nil && !l.failing:
		l.failing, l.since = true, 0
		l.log.Error().Err(err).Msg("the usage ledger cannot be written: its lines wait in memory")
	case err == nil && l.failing:
		l.failing = false
		l.log.Info().Int64("lost", l.since).Msg("the usage ledger is being written again")
	}
	if len(l.lines) == 0 && cap(l.lines) > 4*flushSize {
		l.lines = nil
	}
}
