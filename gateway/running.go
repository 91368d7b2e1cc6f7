package gateway

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/weir-gateway/weir/openai"
)

// Phase is how far an exchange is.
type Phase uint8

// The phases, in their order.
const (
	Waiting   Phase = iota // for the upstream to answer
	Answering              // weir reads the answer
	Natively               // Envoy does
	Settled                // its last bytes are on their way
)

// Running is an exchange that has not ended.
type Running struct {
	ID        string // see Exchange.ID
	RequestID string
	Key       string // id of the client's
	User      string
	Team      string
	Endpoint  string
	Model     string
	Upstream  string
	Stream    bool
	Phase     Phase
	Started   time.Time
	Reserved  int64 // tokens
}

// Running lists the exchanges of this process, the oldest first.
func (g *Gateway) Running() []Running {
	g.live.mu.Lock()
	list := make([]*Exchange, 0, len(g.live.exchanges))
	for _, x := range g.live.exchanges {
		list = append(list, x)
	}
	g.live.mu.Unlock()
	slices.SortFunc(list, func(a, b *Exchange) int { return cmp.Compare(a.id.Seq, b.id.Seq) })
	out := make([]Running, len(list))
	for i, x := range list {
		out[i] = x.running()
	}
	return out
}

// running reads what Admit has set, and what may be read at any time.
func (x *Exchange) running() Running {
	r := Running{
		ID: x.ID(), RequestID: x.call.RequestID, Key: x.key.ID, User: x.key.User, Team: x.key.Team,
		Endpoint: x.call.Endpoint.String(), Model: x.model.Name, Upstream: x.target.Server.Name, Stream: x.stream,
		Phase: Phase(x.phase.Load()), Started: x.call.Start, Reserved: x.reserved.input + x.reserved.output,
	}
	if x.attempts != nil {
		if name, _, n := x.attempts.server(); n > 0 {
			r.Upstream = name
		}
	}
	if x.settled.Load() {
		r.Phase = Settled
	}
	return r
}

// Errors of Cancel.
var (
	ErrNotRunning     = errors.New("no exchange of this weir has that id, or it has ended")
	ErrNotCancellable = errors.New("it is being admitted: try again")
)

// endedWait bounds how long Cancel waits for the end.
const endedWait = 2 * time.Second

// OnCancel says how the exchange is cut short. It is to be called once, before another
// goroutine can know of the exchange's end.
func (x *Exchange) OnCancel(cut func(why *openai.Error)) { x.cut.Store(&cut) }

// Cancel ends an exchange of that id or request id, and tells whether it has ended
// within two seconds. What it has used is charged.
func (g *Gateway) Cancel(ctx context.Context, id string) (ended bool, err error) {
	x, ok := g.named(id)
	if !ok {
		x, ok = g.requested(id)
	}
	if !ok {
		return false, ErrNotRunning
	}
	cut := x.cut.Load()
	if cut == nil {
		return false, ErrNotCancellable
	}
	(*cut)(x.inDialect(cancelled()))
	ctx, stop := context.WithTimeout(ctx, endedWait)
	defer stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, ok := g.live.find(x.id); !ok {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, nil
		case <-tick.C:
		}
	}
}

func (g *Gateway) requested(id string) (*Exchange, bool) {
	g.live.mu.Lock()
	defer g.live.mu.Unlock()
	for _, x := range g.live.exchanges {
		if id != "" && x.call.RequestID == id {
			return x, true
		}
	}
	return nil, false
}

func cancelled() *openai.Error {
	return &openai.Error{
		Status: http.StatusServiceUnavailable, Type: openai.TypeUnavailable, Code: openai.CodeCancelled, NoRetry: true,
		Message: "This request was cancelled by an operator of the gateway.",
	}
}

// Cancelled notes that the answer is cut short, and answers what to send as its last
// part; nil where nothing can be said any more.
func (x *Exchange) Cancelled(why *openai.Error) []byte {
	x.errorType = why.Type
	if x.status == 0 {
		x.status = why.Status
	}
	m, ok := x.meter.(*streamMeter)
	if !ok || m.over() || x.settled.Load() {
		return nil
	}
	return m.interrupt(why)
}
