package simulator

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// defaultEntries is how many entries a ledger keeps, if not told otherwise.
const defaultEntries = 50_000

// Outcome is how an exchange ended. It is empty while it has not.
type Outcome string

// The outcomes.
const (
	OutcomeComplete   Outcome = "complete"    // all was sent
	OutcomeFailed     Outcome = "failed"      // as the script says
	OutcomeRefused    Outcome = "refused"     // by the checks: 400, 401, 404, 405, 413
	OutcomeClientGone Outcome = "client_gone" // the client left before, also from one that hangs
)

// Entry is one exchange.
type Entry struct {
	RequestID    string      `json:"request_id"` // x-request-id as received
	Method       string      `json:"method"`
	Path         string      `json:"path"`
	Model        string      `json:"model"` // as served, or as requested if there is none
	Auth         string      `json:"auth"`  // the last 4 characters of the bearer
	Stream       bool        `json:"stream"`
	MaxTokens    int64       `json:"max_tokens"` // 0 if the request has none
	IncludeUsage bool        `json:"include_usage"`
	Prompt       int64       `json:"prompt"`            // tokens
	Completion   int64       `json:"completion"`        // tokens generated until the end, or until the client left
	Seconds      float64     `json:"seconds,omitempty"` // of audio
	UsageSent    bool        `json:"usage_sent"`        // the usage of the whole answer was written
	Status       int         `json:"status"`            // HTTP status; 0 if none was sent
	Outcome      Outcome     `json:"outcome"`
	Start        time.Time   `json:"start"`
	FirstToken   time.Time   `json:"first_token,omitzero"`
	End          time.Time   `json:"end,omitzero"`
	Header       http.Header `json:"header,omitempty"` // as received, Authorization cut to Auth; not to be changed
	BodyBytes    int64       `json:"body_bytes"`
	Body         []byte      `json:"body,omitempty"` // with Options.KeepBodies
}

// newEntry is the entry of a request that just came.
func newEntry(r *http.Request) Entry {
	e := Entry{
		Start: time.Now(), Method: r.Method, Path: r.URL.Path,
		RequestID: strings.ToValidUTF8(r.Header.Get("X-Request-Id"), "�"),
		Auth:      lastFour(bearer(r.Header)), Header: r.Header.Clone(),
	}
	for i, value := range e.Header["Authorization"] {
		e.Header["Authorization"][i] = lastFour(value)
	}
	return e
}

// bearer returns the bearer token, or all of Authorization if it is none.
func bearer(h http.Header) string {
	value := h.Get("Authorization")
	if scheme, token, ok := strings.Cut(value, " "); ok && strings.EqualFold(scheme, "bearer") {
		return strings.TrimSpace(token)
	}
	return value
}

func lastFour(s string) string { return s[max(0, len(s)-4):] }

// Totals are sums over all exchanges since the last reset.
type Totals struct {
	Requests   int64 `json:"requests"` // arrived; the outcomes lack those in flight
	Complete   int64 `json:"complete"`
	Failed     int64 `json:"failed"`
	Refused    int64 `json:"refused"`
	ClientGone int64 `json:"client_gone"`
	Prompt     int64 `json:"prompt"`     // tokens, of exchanges that ended and were not refused
	Completion int64 `json:"completion"` // tokens, of exchanges that ended
	UsageSent  int64 `json:"usage_sent"` // exchanges
}

func (t *Totals) add(e *Entry) {
	switch e.Outcome {
	case OutcomeComplete:
		t.Complete++
	case OutcomeFailed:
		t.Failed++
	case OutcomeRefused:
		t.Refused++
		return
	case OutcomeClientGone:
		t.ClientGone++
	}
	t.Prompt += e.Prompt
	t.Completion += e.Completion
	if e.UsageSent {
		t.UsageSent++
	}
}

// Snapshot is a ledger at one moment.
type Snapshot struct {
	Entries     []Entry `json:"entries"`
	Totals      Totals  `json:"totals"`
	InFlight    int     `json:"in_flight"`
	MaxInFlight int     `json:"max_in_flight"`
}

// Ledger is the list of all exchanges in the order of their arrival. It is safe
// for concurrent use.
type Ledger struct {
	keep int
	log  *json.Encoder // nil: silent

	mu          sync.Mutex // guards all below, and writing to log
	pages       []*page
	totals      Totals
	inFlight    int
	maxInFlight int
	resets      int
	idle        chan struct{} // closed when nothing is in flight; nil if nobody waits
}

// page is the ledger's copy of an entry.
type page struct {
	entry  Entry
	resets int // of the ledger before it
}

func newLedger(keep int, log io.Writer) *Ledger {
	l := &Ledger{keep: keep}
	if keep <= 0 {
		l.keep = defaultEntries
	}
	if log != nil {
		l.log = json.NewEncoder(log)
	}
	return l
}

// begin adds an exchange.
func (l *Ledger) begin(e *Entry) *page {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &page{entry: *e, resets: l.resets}
	if len(l.pages) >= l.keep {
		l.pages[0] = nil
		l.pages = l.pages[1:]
	}
	l.pages = append(l.pages, p)
	l.totals.Requests++
	l.inFlight++
	l.maxInFlight = max(l.maxInFlight, l.inFlight)
	return p
}

// update notes what is known of an exchange by now.
func (l *Ledger) update(p *page, e *Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.entry = *e
}

// finish ends an exchange.
func (l *Ledger) finish(p *page, e *Entry) {
	e.End = time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	p.entry = *e
	if p.resets == l.resets {
		l.totals.add(e)
	}
	l.inFlight--
	if l.inFlight == 0 && l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
	if l.log != nil {
		line := *e
		line.Header, line.Body = nil, nil
		_ = l.log.Encode(line) // a log that is full must not stop the exchanges
	}
}

// Entries returns all exchanges that are kept, in the order of their arrival.
// Those in flight have no Outcome.
func (l *Ledger) Entries() []Entry { return l.Snapshot().Entries }

// Len returns how many entries there are.
func (l *Ledger) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.pages)
}

// InFlight returns how many exchanges have not ended.
func (l *Ledger) InFlight() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inFlight
}

// MaxInFlight returns the most exchanges there were at once since the last reset.
func (l *Ledger) MaxInFlight() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.maxInFlight
}

// Totals returns the sums.
func (l *Ledger) Totals() Totals {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.totals
}

// Snapshot returns all at once.
func (l *Ledger) Snapshot() Snapshot {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Snapshot{
		Entries: make([]Entry, len(l.pages)), Totals: l.totals,
		InFlight: l.inFlight, MaxInFlight: l.maxInFlight,
	}
	for i, p := range l.pages {
		s.Entries[i] = p.entry
	}
	return s
}

// Reset forgets all exchanges. Those in flight go on and are counted as in
// flight, but their end is no longer noted.
func (l *Ledger) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pages = nil
	l.totals = Totals{}
	l.maxInFlight = l.inFlight
	l.resets++
}

// Wait waits until no exchange is in flight. A client may have all of an answer
// a moment before the exchange ends; after Wait its entry is final. It fails when
// ctx is done before.
func (l *Ledger) Wait(ctx context.Context) error {
	for {
		idle := l.whenIdle()
		if idle == nil {
			return nil
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return fmt.Errorf("simulator: %d exchanges still in flight: %w", l.InFlight(), ctx.Err())
		}
	}
}

// whenIdle returns what is closed when nothing is in flight, nil if that is now.
func (l *Ledger) whenIdle() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inFlight == 0 {
		return nil
	}
	if l.idle == nil {
		l.idle = make(chan struct{})
	}
	return l.idle
}

// Find returns the entries of an x-request-id: more than one if it was retried.
func (l *Ledger) Find(requestID string) []Entry {
	return slices.DeleteFunc(l.Entries(), func(e Entry) bool { return e.RequestID != requestID })
}
