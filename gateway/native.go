package gateway

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/ledger"
	"github.com/weir-gateway/weir/openai"
)

// departureWait is how long the exchange of a natively metered answer waits for
// Envoy's word on how it broke off.
const departureWait = 2 * time.Second

// Notes are what Envoy's own reading of an event stream has noted; see answer.lua.
type Notes struct {
	Usage    []string  // JSON of events that hold nothing but usage, in their order
	Begun    time.Time // when the first bytes came
	Finished bool      // a choice had a finish_reason
	Reason   string    // that of the first such choice, if it is known
	Done     bool      // "data: [DONE]" came
	Failed   bool      // an event had an error, or the end came too soon
	Passed   Passed    // the last that was noted
	Ended    bool      // that is all
}

// Passed is what came of a stream.
type Passed struct {
	Pieces int64 // of text
	Text   int64 // bytes of them, in JSON
	Bytes  int64 // of the stream by then
	Began  int64 // those before the first piece
}

// Departure is how a natively metered answer broke off.
type Departure struct {
	Notes    Notes
	Bytes    int64 // of the body that the client was sent
	Instead  bool  // which was an error in the place of the answer
	Upstream bool  // it was the upstream that left, not the client
}

// unread tells whether the script cannot have seen the answer: it notes the first byte.
func (d *Departure) unread() bool { return d.Bytes > 0 && !d.Instead && d.Notes.Begun.IsZero() }

// nativeMeter stands for Envoy, which reads the answer.
type nativeMeter struct {
	notes     Notes
	perPrompt int // see openai.EventStream
}

func (m *nativeMeter) write(p []byte, _ bool) (out []byte, changed bool) { return p, false }
func (m *nativeMeter) over() bool                                        { return m.notes.Done }
func (m *nativeMeter) begun() bool                                       { return !m.notes.Begun.IsZero() }

// reading has the numbers read by the reader of all other streams.
func (m *nativeMeter) reading() reading {
	events := openai.EventStream{PerPrompt: m.perPrompt}
	for _, event := range m.notes.Usage {
		events.Write([]byte("data: "+event+"\n\n"), false)
	}
	r := reading{over: m.notes.Done, failed: m.notes.Failed, passed: m.notes.Passed}
	if m.notes.Finished {
		r.reasons = []string{m.notes.Reason}
	}
	r.usage, r.known = events.Usage()
	r.pieces = 1 // at least: zeros do not count
	r.whole = r.known && (r.over || m.notes.Finished)
	return r
}

// parting is the end of an exchange that is metered natively. It is settled by what
// Envoy's reading tells at the answer's end; if it had none, by what the access log
// tells; and if that says nothing either, by the clock.
type parting struct {
	mu        sync.Mutex
	left      bool       // the stream of ext_proc is over
	departure *Departure // what the access log told, if it came first
	timer     *time.Timer
}

// Native tells whether the answer may be read inside of Envoy, and whether events are
// to be taken out of it. It may be where weir need not change or end it, and where its
// size would tell its tokens if it broke off.
func (x *Exchange) Native() (native, strip bool) { return x.native, x.asked }

func (x *Exchange) mayBeNative() bool {
	if !x.call.Scripted || !x.stream || !x.call.Endpoint.Generates() || x.model.Rewrite || x.watched() {
		return false
	}
	switch x.target.Server.Metering {
	case config.MeteringNative:
		return true
	case config.MeteringAuto:
		return x.g.sizes.known(x.kind())
	case config.MeteringStreamed:
	}
	return false
}

// watched tells whether weir has to end a stream that takes too long. The usual
// patience is Envoy's to keep.
func (x *Exchange) watched() bool {
	return x.timeouts.Total > 0 || x.timeouts.Idle > 0 && x.timeouts.Idle != config.DefaultIdleTimeout
}

func (x *Exchange) kind() kind {
	server := x.target.Server.Name
	if x.attempts != nil {
		if name, _, n := x.attempts.server(); n > 0 {
			server = name
		}
	}
	return kind{server, x.model.Name, x.call.Endpoint}
}

// Ended says that a natively metered answer of this process is at its end, and what
// was noted of it. It returns once the exchange is settled, with what that took, and
// tells whether it was found.
func (g *Gateway) Ended(exchange string, n Notes) (took *ledger.Tokens, found bool) {
	x, ok := g.named(exchange)
	if !ok || Phase(x.phase.Load()) != Natively {
		return nil, false
	}
	x.parting.mu.Lock()
	defer x.parting.mu.Unlock()
	x.part(n, func(r *reading) {
		r.estimate = x.g.sizes.tokens(x.kind(), n.Passed, n.Passed.Bytes)
	}, true)
	return x.Took(), true
}

// Departed says how an answer of this process broke off that was to be metered natively.
// An exchange that is settled, or unknown, is left alone, and one that was answered
// otherwise to its End.
func (g *Gateway) Departed(exchange string, d *Departure) {
	x, ok := g.named(exchange)
	if !ok || !x.native {
		return
	}
	x.parting.mu.Lock()
	defer x.parting.mu.Unlock()
	x.parting.departure = d
	if x.parting.left {
		x.depart()
	}
}

// leave ends a natively metered exchange once Envoy has told how it broke off, if it
// did.
func (x *Exchange) leave() {
	x.parting.mu.Lock()
	defer x.parting.mu.Unlock()
	x.parting.left = true
	if x.settled.Load() || x.parting.departure != nil || x.g.hurried.Load() {
		x.depart()
		return
	}
	x.parting.timer = time.AfterFunc(departureWait, func() {
		x.parting.mu.Lock()
		defer x.parting.mu.Unlock()
		x.depart()
	})
}

// Hurry has natively metered exchanges that break off from now on settled without
// Envoy's word: nobody hears it any more.
func (g *Gateway) Hurry() { g.hurried.Store(true) }

// depart settles what is not settled by what is known. It is called with parting.mu
// held.
func (x *Exchange) depart() {
	defer x.g.live.remove(x)
	if x.parting.timer != nil {
		x.parting.timer.Stop()
	}
	if x.settled.Load() {
		return
	}
	took := time.Since(x.call.Start)
	warn := func(what string) {
		x.g.log.Warn().Str("request_id", x.call.RequestID).Msg(what + "; its tokens are estimated by the time that it took")
	}
	d := x.parting.departure
	if d == nil {
		if !x.g.hurried.Load() {
			took -= departureWait
			warn("Envoy did not tell how an answer broke off")
		}
		x.part(Notes{}, func(r *reading) { r.estimate = x.generatedIn(took) }, false)
		return
	}
	if d.unread() {
		warn("Envoy did not read an answer that it was to read")
	}
	x.part(d.Notes, func(r *reading) {
		r.failed = r.failed || d.Upstream && !r.over
		if d.unread() {
			r.estimate = x.generatedIn(took)
		} else {
			r.estimate = x.g.sizes.tokens(x.kind(), d.Notes.Passed, d.Bytes)
		}
	}, d.Notes.Ended)
}

// generatedIn estimates the tokens of an answer of which only is known how long it took.
func (x *Exchange) generatedIn(took time.Duration) int64 {
	return max(1, x.g.sizes.tokensIn(x.kind(), took, x.choices))
}

// part settles a natively metered exchange by notes and what else is known, unless it
// is settled. It is called with parting.mu held.
func (x *Exchange) part(n Notes, more func(*reading), last bool) {
	m, native := x.meter.(*nativeMeter)
	if !native || x.settled.Load() {
		return
	}
	m.notes = n
	r := m.reading()
	more(&r)
	if !n.Begun.IsZero() {
		x.ttft = max(n.Begun.Sub(x.call.Start), time.Microsecond) // Envoy's clock tells whole milliseconds
		x.g.metrics.FirstToken(x.model.Name, x.ttft)
	}
	x.conclude(r, last)
}

// ParseNotes reads notes as answer.lua writes them.
func ParseNotes(text string) (n Notes) {
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch name {
		case "begun":
			ms, _ := strconv.ParseInt(value, 10, 64)
			n.Begun = time.UnixMilli(ms)
		case "usage":
			n.Usage = append(n.Usage, value)
		case "finished":
			n.Finished, n.Reason = true, openai.FinishReason(value)
		case "done":
			n.Done = true
		case "failed":
			n.Failed = true
		case "passed", "ended":
			// Numbers of ours.
			_, _ = fmt.Sscan(value, &n.Passed.Pieces, &n.Passed.Text, &n.Passed.Bytes, &n.Passed.Began)
			n.Ended = n.Ended || name == "ended"
		}
	}
	return n
}
