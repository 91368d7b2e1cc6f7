package gateway

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/ledger"
	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/telemetry"
	"github.com/weir-gateway/weir/tokens"
	"github.com/weir-gateway/weir/upstream"
)

// Options are what a Gateway works with. Ledger may be nil.
type Options struct {
	Config *config.Config
	Models *upstream.Directory
	Keys   *keyring.Keyring
	Limits Limiter
	// Instance names this process in its limits' store; see ratelimit.ID.
	Instance uint64
	Ledger   *ledger.Ledger
	Metrics  *telemetry.Metrics
	Traces   *telemetry.Tracer // nil: there are none
	Log      zerolog.Logger
}

// Gateway admits calls and settles them.
type Gateway struct {
	models   *upstream.Directory
	keys     *keyring.Keyring
	limits   Limiter
	ledger   *ledger.Ledger
	metrics  *telemetry.Metrics
	traces   *telemetry.Tracer
	log      zerolog.Logger
	rulebook atomic.Pointer[Rulebook]
	denials  denials
	lengths  lengths
	sizes    sizes
	guesses  tokens.Estimator
	live     live
	instance uint64
	seq      atomic.Uint64
	hurried  atomic.Bool
}

// New returns a Gateway. It fails on limits that the kernel cannot keep.
func New(opts Options) (*Gateway, error) {
	book, err := NewRulebook(opts.Config)
	if err != nil {
		return nil, err
	}
	_, memory := opts.Limits.(direct)
	g := &Gateway{
		denials: denials{requestsOnly: memory},
		models:  opts.Models, keys: opts.Keys, limits: opts.Limits, ledger: opts.Ledger,
		metrics: opts.Metrics, traces: opts.Traces, log: opts.Log,
		live:     live{exchanges: map[ratelimit.ID]*Exchange{}, changed: make(chan struct{}, 1)},
		instance: opts.Instance,
	}
	g.Apply(book)
	return g, nil
}

// Rulebook is what a configuration says about limits and requests.
type Rulebook struct {
	policy policy
	bounds bounds
}

// NewRulebook fails on limits that the kernel cannot keep.
func NewRulebook(cfg *config.Config) (*Rulebook, error) {
	p, err := newPolicy(cfg)
	if err != nil {
		return nil, err
	}
	return &Rulebook{policy: p, bounds: newBounds(cfg.Requests)}, nil
}

// Apply decides new calls by the book. What limits of the same name and scope have
// counted stays.
func (g *Gateway) Apply(book *Rulebook) { g.rulebook.Store(book) }

// Call is a request as it arrived.
type Call struct {
	RequestID   string
	KeyID       string // of the caller, whom the edge has authenticated
	Endpoint    openai.Endpoint
	ContentType string    // which has the boundary of a form
	Body        []byte    // not kept beyond Admit
	Start       time.Time // when the request's headers arrived
	Trace       telemetry.TraceContext
	Scripted    bool // Envoy can read the answer, if it is an event stream
}

// Admit decides about a call. What it returns is either an exchange, which must
// be ended, or the error to answer, which is then settled already.
func (g *Gateway) Admit(ctx context.Context, call Call) (*Exchange, *openai.Error) {
	body := call.Body
	call.Body = nil
	x := &Exchange{g: g, call: call, span: g.traces.Start(call.Endpoint.Operation(), call.Trace, call.Start)}
	if err := x.admit(ctx, body); err != nil {
		x.refuse(err)
		return nil, x.inDialect(err)
	}
	g.live.add(x)
	x.overhead = time.Since(call.Start)
	g.metrics.Admitted(x.overhead)
	return x, nil
}

// nextID names an exchange in the store.
func (g *Gateway) nextID() ratelimit.ID {
	return ratelimit.ID{Instance: g.instance, Seq: g.seq.Add(1)}
}
