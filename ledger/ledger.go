// Package ledger writes the usage ledger: one JSON line for each request that
// reached a decision, refusals included.
//
// Lines are written by one goroutine, off the path of the answers, in batches
// of a tenth of a second. A caller waits only when [queue] records are
// unwritten: a ledger that drops lines is no ledger.
package ledger

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"
)

const (
	queue      = 8192
	flushEvery = 100 * time.Millisecond
)

// Outcome is how an exchange ended.
type Outcome string

// The outcomes.
const (
	OK            Outcome = "ok"
	Refused       Outcome = "refused"        // by weir; no upstream was asked
	UpstreamError Outcome = "upstream_error" // the upstream failed before its answer began
	Aborted       Outcome = "aborted"        // the stream ended before the answer did
	Cut           Outcome = "cut"            // the answer ended before it was complete
)

// Source tells what the counts of an exchange are worth.
type Source string

// The sources.
const (
	Exact     Source = "exact"     // the upstream's own usage
	Estimated Source = "estimated" // from the text that was seen
	Missing   Source = "missing"   // nothing was generated, or nothing is known
)

// Tokens are counts of one exchange. Cached are part of Input, Reasoning of Output.
type Tokens struct {
	Input     int64 `json:"input"`
	Output    int64 `json:"output"`
	Cached    int64 `json:"cached"`
	Reasoning int64 `json:"reasoning"`
}

// Record is one line.
type Record struct {
	Time          time.Time `json:"time"` // of the decision's arrival, UTC
	RequestID     string    `json:"request_id"`
	KeyID         string    `json:"key_id"`
	User          string    `json:"user,omitempty"`
	Team          string    `json:"team,omitempty"`
	Plan          string    `json:"plan,omitempty"`
	Endpoint      string    `json:"endpoint"`
	Model         string    `json:"model,omitempty"`        // as the client named it
	ServedModel   string    `json:"served_model,omitempty"` // as the upstream knows it
	Upstream      string    `json:"upstream,omitempty"`
	UpstreamKeyID string    `json:"upstream_key_id,omitempty"` // of its pool
	Attempts      int       `json:"attempts,omitempty"`        // made for it, that failed ones included
	Stream        bool      `json:"stream"`
	Status        int       `json:"status"` // HTTP status that the client was sent; 0 if it left before
	Outcome       Outcome   `json:"outcome"`
	Tokens        Tokens    `json:"tokens"`
	Source        Source    `json:"tokens_source"`
	EstimateInput int64     `json:"estimate_input"` // tokens
	Reserved      int64     `json:"reserved"`       // tokens, input and output
	TTFT          float64   `json:"ttft_ms,omitempty"`
	Duration      float64   `json:"duration_ms"`
	Overhead      float64   `json:"overhead_ms"`     // spent in weir before the upstream
	Limit         string    `json:"limit,omitempty"` // the one that refused
}

// Ledger writes records. A nil Ledger discards them.
type Ledger struct {
	records chan Record
	done    chan struct{}
	file    io.WriteCloser
	log     zerolog.Logger
	failing bool // owned by run
}

// Open appends to a file, which is made if need be, readable by its owner.
func Open(path string, log zerolog.Logger) (*Ledger, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	return New(f, log), nil
}

// New writes to w, and closes it at the end.
func New(w io.WriteCloser, log zerolog.Logger) *Ledger {
	l := &Ledger{records: make(chan Record, queue), done: make(chan struct{}), file: w, log: log}
	go l.run()
	return l
}

// Write hands a record over. It must not be called after Close.
func (l *Ledger) Write(r Record) {
	if l != nil {
		l.records <- r
	}
}

// Close writes what is left and closes the file.
func (l *Ledger) Close() error {
	if l == nil {
		return nil
	}
	close(l.records)
	<-l.done
	if err := l.file.Close(); err != nil {
		return fmt.Errorf("close ledger: %w", err)
	}
	return nil
}

// run is the only user of the file until done is closed.
func (l *Ledger) run() {
	defer close(l.done)
	w := bufio.NewWriterSize(l.file, 64<<10)
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case r, ok := <-l.records:
			if !ok {
				l.flush(w)
				return
			}
			if err := l.line(w, &r); err != nil {
				l.failed(w, err)
			}
		case <-tick.C:
			l.flush(w)
		}
	}
}

func (l *Ledger) line(w io.Writer, r *Record) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

func (l *Ledger) flush(w *bufio.Writer) {
	if w.Buffered() == 0 {
		return
	}
	if err := w.Flush(); err != nil {
		l.failed(w, err)
		return
	}
	if l.failing {
		l.failing = false
		l.log.Info().Msg("the usage ledger is being written again")
	}
}

// failed says once that lines are being lost, and drops those that w holds: a
// bufio.Writer keeps its first error for ever.
func (l *Ledger) failed(w *bufio.Writer, err error) {
	w.Reset(l.file)
	if !l.failing {
		l.failing = true
		l.log.Error().Err(err).Msg("the usage ledger cannot be written: lines are being lost")
	}
}
