package extproc_test

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/weir-gateway/weir/authz"
	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/extproc"
	"github.com/weir-gateway/weir/extproc/extproctest"
	"github.com/weir-gateway/weir/gateway"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/ledger"
	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/ratelimit/memstore"
	"github.com/weir-gateway/weir/telemetry"
	"github.com/weir-gateway/weir/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// secret is the key of the caller "good".
const secret = "sk-good-0123456789"

// rig is a server with all that stands behind it, and no Envoy.
type rig struct {
	t      testing.TB
	server *extproc.Server
	store  *memstore.Store
	ledger *ledger.Ledger
	lines  *buffer
}

func newRig(t testing.TB, limits ...config.Limit) *rig {
	t.Helper()
	cfg := &config.Config{
		Upstreams: []config.Upstream{{Name: "up", Key: "sk-upstream"}},
		Models:    []config.Model{{Name: "m", Aliases: []string{"alias"}, Upstreams: []string{"up"}, MaxOutput: 100}},
		Limits:    limits,
	}
	models, err := upstream.New(cfg, upstream.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, store: memstore.New(memstore.Options{}), lines: &buffer{}}
	r.ledger = ledger.New(r.lines, zerolog.Nop())
	keys, metrics := keyring.Fixed(map[string]*keyring.Key{
		secret: {ID: "good"}, "sk-old-0123456789": {ID: "disabled", Disabled: true},
		"sk-net-0123456789": {ID: "net", CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
	}), telemetry.NewMetrics()
	g, err := gateway.New(gateway.Options{
		Config: cfg, Models: models, Limits: gateway.Direct(r.store), Ledger: r.ledger, Metrics: metrics, Log: zerolog.Nop(), Keys: keys,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.server = extproc.New(authz.New(keys, nobodyDenied, metrics), g, extproc.Options{}, zerolog.Nop())
	return r
}

func nobodyDenied(*keyring.Key, openai.Endpoint, string, telemetry.TraceContext, time.Time) *openai.Error {
	return nil
}

// run carries an exchange and fails the test where Envoy would fail the request.
func (r *rig) run(x extproctest.Exchange) *extproctest.Result {
	r.t.Helper()
	result, err := extproctest.Run(r.t.Context(), r.server.Process, x)
	if err != nil {
		r.t.Fatalf("%v\n%v", err, result.Transcript)
	}
	if result.ServerError != nil {
		r.t.Fatalf("the server failed: %v", result.ServerError)
	}
	return result
}

// records closes the ledger and returns its lines. Nothing may be held by then.
func (r *rig) records() (records []ledger.Record) {
	r.t.Helper()
	if err := r.ledger.Close(); err != nil {
		r.t.Fatal(err)
	}
	for line := range bytes.Lines(r.lines.Bytes()) {
		var rec ledger.Record
		if err := json.Unmarshal(line, &rec); err != nil {
			r.t.Fatal(err)
		}
		records = append(records, rec)
	}
	if s := r.store.Stats(); s.Receipts != 0 || s.Leases != 0 {
		r.t.Errorf("the store still holds %d open exchanges and %d slots", s.Receipts, s.Leases)
	}
	return records
}

// buffer is a file in memory.
type buffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *buffer) Close() error { return nil }

// request is a POST as Envoy tells of it.
func request(path, body string, headers ...extproctest.Header) extproctest.Exchange {
	return extproctest.Exchange{
		Request: append([]extproctest.Header{
			{Name: ":path", Value: path},
			{Name: "x-request-id", Value: "r-1"},
			{Name: "authorization", Value: "Bearer " + secret},
			{Name: "content-length", Value: strconv.Itoa(len(body))},
		}, headers...),
		Body: []byte(body),
	}
}

const (
	chatPath = "/v1/chat/completions"
	plain    = `{"model":"m","messages":[{"role":"user","content":"hello there"}]}`
	streamed = `{"model":"m","stream":true,"messages":[{"role":"user","content":"hello there"}]}`
)

// sse is an answer of an event stream, in those chunks.
func sse(chunks ...string) *extproctest.Answer {
	return answer(200, "text/event-stream", chunks...)
}

func answer(status int, contentType string, chunks ...string) *extproctest.Answer {
	a := &extproctest.Answer{Headers: []extproctest.Header{
		{Name: ":status", Value: strconv.Itoa(status)}, {Name: "content-type", Value: contentType},
	}}
	for _, c := range chunks {
		a.Chunks = append(a.Chunks, []byte(c))
	}
	return a
}
