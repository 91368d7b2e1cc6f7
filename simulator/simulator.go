package simulator

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// Options are the settings of a simulator.
type Options struct {
	// Models are those served. Without any, there is one called demo that
	// answers with TextAnswer. The first also serves requests that name none.
	Models []Model
	// Key, if not empty, is the bearer that /v1/ asks for.
	Key string
	// Keys, if not nil, are the bearers that /v1/ takes instead of Key. Each has a
	// script that overrides the model's for a request for a completion, given how
	// many came with that key before it; nil overrides nothing.
	Keys map[string]func(n int64) string
	// Log, if not nil, gets one line of JSON for each finished exchange: its
	// Entry without headers and body.
	Log io.Writer
	// KeepEntries is how many entries the ledger keeps before it forgets the
	// oldest; 0 is 50 000. Totals go on.
	KeepEntries int
	// KeepBodies keeps the bodies of requests in the ledger.
	KeepBodies bool
}

// Simulator is an upstream, and safe for concurrent use.
type Simulator struct {
	models     []Model
	key        string
	keys       map[string]*keyScript
	keepBodies bool
	ledger     *Ledger
	modelList  []byte
}

// New returns a simulator. It is an http.Handler for HTTP/1.1 servers; with
// HTTP/2 the failures that break a connection reset the stream instead.
func New(opts Options) *Simulator {
	models := opts.Models
	if len(models) == 0 {
		models = []Model{{Name: "demo", Script: Script{Text: TextAnswer}}}
	}
	var keys map[string]*keyScript
	if opts.Keys != nil {
		keys = map[string]*keyScript{}
	}
	for key, script := range opts.Keys {
		keys[key] = &keyScript{script: script}
	}
	return &Simulator{
		models:     models,
		keys:       keys,
		key:        opts.Key,
		keepBodies: opts.KeepBodies,
		ledger:     newLedger(opts.KeepEntries, opts.Log),
		modelList:  renderModels(models, time.Now()),
	}
}

// keyScript is how the simulator treats the requests with one key.
type keyScript struct {
	script func(n int64) string
	n      atomic.Int64
}

// next is what overrides the script of the next request.
func (k *keyScript) next() string {
	n := k.n.Add(1) - 1
	if k.script == nil {
		return ""
	}
	return k.script(n)
}

// Ledger returns what the simulator did.
func (s *Simulator) Ledger() *Ledger { return s.ledger }

// ServeHTTP serves the endpoints. /health and /_ledger are open to all and
// leave no trace in the ledger.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/health":
		w.WriteHeader(http.StatusOK)
	case r.URL.Path == "/_ledger", strings.HasPrefix(r.URL.Path, "/_ledger/"):
		s.ledger.ServeHTTP(w, r)
	default:
		x := exchange{sim: s, w: w, r: r, rc: http.NewResponseController(w)}
		x.run()
	}
}
