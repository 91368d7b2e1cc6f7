package gateway

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/ledger"
	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/telemetry"
	"github.com/weir-gateway/weir/upstream"
)

// Options are what a Gateway works with. All are required but Ledger.
type Options struct {
	Config  *config.Config
	Models  *upstream.Table
	Keys    *keyring.Keyring
	Store   ratelimit.Store
	Ledger  *ledger.Ledger
	Metrics *telemetry.Metrics
	Log     zerolog.Logger
}

// Gateway admits calls and settles them.
type Gateway struct {
	models   *upstream.Table
	keys     *keyring.Keyring
	store    ratelimit.Store
	ledger   *ledger.Ledger
	metrics  *telemetry.Metrics
	log      zerolog.Logger
	policy   policy
	live     live
	instance uint64
	seq      atomic.Uint64
}

// New returns a Gateway. It fails on limits that the kernel cannot keep.
func New(opts Options) (*Gateway, error) {
	p, err := newPolicy(opts.Config)
	if err != nil {
		return nil, err
	}
	return &Gateway{
		models: opts.Models, keys: opts.Keys, store: opts.Store, ledger: opts.Ledger,
		metrics: opts.Metrics, log: opts.Log, policy: p,
		live: live{exchanges: map[ratelimit.ID]*Exchange{}, changed: make(chan struct{}, 1)},
		// Leases of another process must never be taken for ours.
		instance: rand.Uint64(),
	}, nil
}

// Call is a request as it arrived.
type Call struct {
	RequestID string
	KeyID     string // of the caller, whom the edge has authenticated
	Endpoint  openai.Endpoint
	Body      []byte    // not kept beyond Admit
	Start     time.Time // when the request's headers arrived
}

// Admit decides about a call. What it returns is either an exchange, which must
// be ended, or the error to answer, which is then settled already.
func (g *Gateway) Admit(ctx context.Context, call Call) (*Exchange, *openai.Error) {
	body := call.Body
	call.Body = nil
	x := &Exchange{g: g, call: call}
	if err := x.admit(ctx, body); err != nil {
		x.refuse(err)
		return nil, err
	}
	g.live.add(x)
	x.overhead = time.Since(call.Start)
	g.metrics.Admitted(x.overhead)
	return x, nil
}

// Refused notes a call that an edge refused before it became an exchange.
func (g *Gateway) Refused(endpoint openai.Endpoint, err *openai.Error, took time.Duration) {
	g.metrics.Answered(endpoint.String(), err.Status, err.Type, took)
}

// nextID names an exchange in the store.
func (g *Gateway) nextID() ratelimit.ID {
	return ratelimit.ID{Instance: g.instance, Seq: g.seq.Add(1)}
}
