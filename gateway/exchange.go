package gateway

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/ledger"
	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/ratelimit/failover"
	"github.com/weir-gateway/weir/telemetry"
	"github.com/weir-gateway/weir/tokens"
	"github.com/weir-gateway/weir/upstream"
)

// settleTimeout bounds how long the store may take to settle an exchange.
const settleTimeout = time.Second

// Exchange is one call that was admitted. Its methods must not run at the same
// time, but for those of the lease renewal, which read only what Admit has set.
type Exchange struct {
	g    *Gateway
	call Call

	// Set by Admit.
	id        ratelimit.ID
	key       *keyring.Key
	asking    string // the model as the client named it
	model     config.Model
	target    upstream.Target // where the request is to begin
	attempts  *attempts       // nil: there is one attempt, and Envoy makes it alone
	timeouts  upstream.Timeouts
	stream    bool
	took      atomic.Pointer[ledger.Tokens]
	asked     bool // for usage, which the client did not want
	native    bool // the answer may be read inside of Envoy
	body      []byte
	sent      int // length of the body as it is sent, in bytes
	rewritten bool
	prompt    tokens.Prompt
	input     int64 // estimate of the prompt, in tokens
	choices   int64 // that are generated, of all prompts
	perPrompt int   // choices of each of several prompts; 0: there is one
	reserved  amounts
	unbounded bool // nobody says how long an answer may be
	charges   []ratelimit.Charge
	headers   []openai.Header // x-ratelimit-*
	overhead  time.Duration
	span      *telemetry.Span // nil: there are no traces

	// Set while the answer passes.
	head      Head
	status    int // as the client got it; 0 before the answer
	meter     meter
	renamer   *openai.Renamer // nil: the answer stays as it is
	ttft      time.Duration
	seconds   float64  // of audio
	reasons   []string // why choices ended
	errorType string
	parting   parting

	phase atomic.Uint32 // a Phase, of Answer
	cut   atomic.Pointer[func(*openai.Error)]

	settled atomic.Bool // set once, by whoever owns the exchange; read by the lease renewal
}

// Body is what to send upstream, and whether it differs from what came. It is
// given once: the exchange keeps no body.
func (x *Exchange) Body() (body []byte, rewritten bool) {
	body, x.body = x.body, nil
	return body, x.rewritten
}

// ID names the exchange, among all of all processes.
func (x *Exchange) ID() string {
	return strconv.FormatUint(x.id.Instance, 36) + "." + strconv.FormatUint(x.id.Seq, 36)
}

// Model is the name of the model that was asked for, its own where an alias was.
func (x *Exchange) Model() string { return x.model.Name }

// Upstream is the name of the upstream that is to be asked first.
func (x *Exchange) Upstream() string { return x.target.Server.Name }

// Credential is what the upstream is to be shown; "" is nothing, or for each
// attempt to choose.
func (x *Exchange) Credential() config.Secret {
	if x.attempts != nil {
		return ""
	}
	return x.target.Server.Credential
}

// Timeouts bound the answer. They are those of the upstream, or of the slowest of
// those that may answer. FirstByte is that of this answer, streamed or not.
func (x *Exchange) Timeouts() upstream.Timeouts { return x.timeouts }

// plan decides where the request may go.
func (x *Exchange) plan(route *upstream.Route, rules []rule) *openai.Error {
	plan, err := route.Plan()
	if err != nil {
		return noKey(err)
	}
	x.target, x.attempts = plan[0], newAttempts(x, plan, rules)
	x.timeouts = upstream.TimeoutsOf(plan)
	if !x.stream {
		// A plain answer begins when all of it is there.
		x.timeouts.FirstByte = cmp.Or(x.timeouts.Total, x.timeouts.Idle)
	} else if x.timeouts.Total > 0 {
		x.timeouts.FirstByte = min(x.timeouts.FirstByte, x.timeouts.Total)
	}
	return nil
}

// Streamed tells whether the client asked for a stream.
func (x *Exchange) Streamed() bool { return x.stream }

// admit decides, and charges the limits as the last step.
func (x *Exchange) admit(ctx context.Context, body []byte) *openai.Error {
	ring := x.g.keys.Ring()
	key, ok := ring.ByID(x.call.KeyID)
	if !ok || !key.Usable(x.call.Start) {
		return keyGone()
	}
	x.key = key
	request, err := x.call.parse(body)
	if err != nil {
		return err
	}
	x.asking, x.stream = request.Model, request.Stream
	if err := x.g.rulebook.Load().bounds.check(&request); err != nil {
		return err
	}
	route, err := x.resolve()
	if err != nil {
		return err
	}
	limits, cause := x.g.rulebook.Load().policy.rules(ring, x.key)
	if cause != nil {
		return internal(cause)
	}
	limits = x.call.countedBy(limits)
	if err := x.plan(route, limits.attempt); err != nil {
		return err
	}
	prompts := x.estimate(&request, body)
	if prompts > 1 {
		x.perPrompt = int(request.N)
	}
	x.choices = saturated(prompts, max(request.N, request.BestOf))
	atMost, err := x.fit(&request, prompts)
	if err != nil {
		return err
	}
	bounded := request
	if atMost > 0 {
		bounded.MaxTokens = atMost
	}
	x.reserved = reservation(&bounded, x.model, x.input, x.choices)
	x.unbounded = bounded.MaxTokens == 0 && x.model.MaxOutput == 0
	if err := x.charge(ctx, limits.exchange); err != nil {
		return err
	}
	x.asked = request.AsksForUsage() && !x.target.Server.NeverAsk
	x.native = x.mayBeNative()
	x.body = request.Apply(body, openai.Edit{
		Model: x.target.Model, MaxTokens: x.model.MaxOutput, AtMost: atMost, IncludeUsage: x.asked, CacheSalt: x.salt(),
	})
	x.sent = len(x.body)
	x.rewritten = len(x.body) != len(body) || &x.body[0] != &body[0]
	return nil
}

// resolve finds the route of the model that the client asks for. A model that
// does not exist and one that is not the key's are answered alike.
func (x *Exchange) resolve() (*upstream.Route, *openai.Error) {
	table := x.g.models.Table()
	route, ok := table.Resolve(x.asking)
	switch {
	case !ok && table.Learning():
		return nil, UnknownModel(table, x.asking)
	case x.asking == "" && !ok:
		return nil, &openai.Error{
			Status: http.StatusBadRequest, Type: openai.TypeInvalidRequest, Code: openai.CodeMissingParameter, Param: "model",
			Message: "You must provide a model parameter: GET /v1/models lists those you can use.",
		}
	case !ok || !ModelAllowed(x.key, route.Model):
		return nil, UnknownModel(table, x.asking)
	}
	x.model = route.Model
	if x.asking == "" {
		x.asking = route.Model.Name
	}
	return route, nil
}

// UnknownModel is what is said of a model that is not in the table, or not the key's.
func UnknownModel(table *upstream.Table, name string) *openai.Error {
	const listing = 2 * time.Second // until the upstream is asked again
	if _, ok := table.Resolve(name); !ok && table.Learning() {
		return &openai.Error{
			Status: http.StatusServiceUnavailable, Type: openai.TypeUnavailable, Code: openai.CodeNoUpstream, RetryAfter: listing,
			Message: "It is not known yet which models there are: an upstream has not listed its models. Try again.",
		}
	}
	return &openai.Error{
		Status: http.StatusNotFound, Type: openai.TypeInvalidRequest, Code: openai.CodeModelNotFound, Param: "model",
		Message: "The model `" + name + "` does not exist or you do not have access to it. GET /v1/models lists those you can use.",
	}
}

// ModelAllowed tells whether a key may use a model, under whichever of its names.
func ModelAllowed(key *keyring.Key, m config.Model) bool {
	return slices.ContainsFunc(upstream.Names(m), key.AllowsModel)
}

// charge asks the store to admit the exchange.
func (x *Exchange) charge(ctx context.Context, rules []rule) *openai.Error {
	x.id = x.g.nextID()
	x.charges = make([]ratelimit.Charge, len(rules))
	policies := make([]failover.Policy, len(rules))
	for i := range rules {
		r := &rules[i]
		x.charges[i] = ratelimit.Charge{Limit: r.limit, Scope: r.scopeFor(x.model.Name), Cost: x.cost(r)}
		policies[i] = r.failure
	}
	now := time.Now()
	if e := x.g.denials.known(x.charges, now); e != nil {
		return e
	}
	d, mode, err := x.g.limits.Admit(ctx, x.id, x.charges, policies, ratelimit.AdmitOptions{})
	if err != nil {
		return alone(storeError(err), mode)
	}
	for _, i := range d.Shadowed {
		x.g.metrics.Shadowed(x.charges[i].Limit.Name)
	}
	if !d.Admitted {
		x.g.denials.note(x.charges, &d, mode, time.Now()) // not before the store decided
		return alone(limitError(x.charges, &d), mode)
	}
	x.headers = append(limitHeaders(x.charges, &d), degraded(mode)...)
	return nil
}

// degraded is the header by which clients see that limits are not the shared
// ones at the moment.
func degraded(mode failover.Mode) []openai.Header {
	if mode == failover.Shared {
		return nil
	}
	return []openai.Header{{Name: "x-weir-limits", Value: "degraded"}}
}

func alone(e *openai.Error, mode failover.Mode) *openai.Error {
	e.Extra = append(e.Extra, degraded(mode)...)
	return e
}

// Write takes the next bytes of the answer, last with those that end it, and
// returns what to pass on in their place and whether that differs.
func (x *Exchange) Write(p []byte, last bool) (out []byte, changed bool) {
	if x.meter == nil {
		return p, false
	}
	out, changed = x.meter.write(p, last)
	if x.renamer != nil {
		out, changed = x.renamer.Write(out), true
	}
	if x.settled.Load() {
		return out, changed
	}
	if x.ttft == 0 && x.meter.begun() {
		x.ttft = time.Since(x.call.Start)
		x.g.metrics.FirstToken(x.model.Name, x.ttft)
	}
	// A client may hang up as soon as it has read the end, and may come back at
	// once: by then the exchange must be settled.
	if last || x.meter.over() {
		x.conclude(x.meter.reading(), last)
	}
	return out, changed
}

// Expire ends a stream whose upstream says nothing more in time, after so long. It
// answers what to send to the client as the last thing, before the stream is broken
// off; nil if the answer has ended already.
func (x *Exchange) Expire(after time.Duration) []byte {
	m, ok := x.meter.(*streamMeter)
	if !ok || m.over() || x.settled.Load() {
		return nil
	}
	out := m.interrupt(&openai.Error{
		Status: http.StatusGatewayTimeout, Type: openai.TypeServer, Code: openai.CodeUpstreamTimeout,
		Message: "The upstream server did not go on with its answer in time: it was given " + after.String() + ".",
	})
	x.conclude(m.reading(), false)
	return out
}

// End says that nothing more will come. It settles what is not settled yet: the
// answer did not reach its end.
func (x *Exchange) End() {
	if _, native := x.meter.(*nativeMeter); native {
		x.leave()
		return
	}
	defer x.g.live.remove(x)
	if x.settled.Load() {
		return
	}
	var r reading
	if x.meter != nil {
		r = x.meter.reading()
	}
	if !x.stream && !r.known && x.call.Endpoint.HasOutput() {
		// What was generated for a plain answer is not seen before all of it is there.
		r.estimate = max(r.estimate, x.g.sizes.tokensIn(x.kind(), time.Since(x.call.Start), x.choices))
	}
	x.conclude(r, false)
}

// conclude settles by what the answer said.
func (x *Exchange) conclude(r reading, last bool) {
	outcome := ledger.Aborted
	switch m, isError := x.meter.(*errorMeter); {
	case isError:
		if m.err != nil {
			x.errorType = m.err.Type
		}
		x.failed()
		return
	case r.failed:
		outcome = ledger.Cut
		x.errorType = openai.TypeServer
	case r.over, last && r.whole:
		outcome = ledger.OK
	case last:
		outcome = ledger.Cut
	}
	actual, source := x.count(r)
	x.seconds, x.reasons = r.usage.Seconds, r.reasons
	if outcome == ledger.OK && source == ledger.Exact {
		x.learn(&r)
	}
	if outcome == ledger.OK && source == ledger.Exact && x.call.Endpoint.HasOutput() {
		x.g.lengths.observe(x.key.ID, x.model.Name, actual.output/max(1, x.choices))
		x.g.sizes.observe(x.kind(), actual.output, x.choices, r.passed, time.Since(x.call.Start))
	}
	x.settle(outcome, source, actual, r.usage)
}

// count is what the exchange took: the upstream's word if it gave it, else the
// text that was seen. An exchange that was sent upstream has at least used its
// prompt.
func (x *Exchange) count(r reading) (amounts, ledger.Source) {
	switch {
	case !x.call.countable(r):
		return amounts{}, ledger.Missing
	case r.whole:
		return amounts{input: r.usage.Input, output: r.usage.Output}, ledger.Exact
	case r.known && r.pieces > 0 && r.usage.Output >= r.pieces: // running totals that keep up with the text
		return amounts{input: r.usage.Input, output: r.usage.Output}, ledger.Estimated
	case r.known: // some upstreams send zeros until the end
		return amounts{input: cmp.Or(r.usage.Input, x.input), output: max(r.usage.Output, r.estimate)}, ledger.Estimated
	default:
		return amounts{input: x.input, output: min(r.estimate, x.reserved.output)}, ledger.Estimated
	}
}

// keyGone is for a key that was revoked between authentication and admission.
func keyGone() *openai.Error {
	return &openai.Error{
		Status: http.StatusUnauthorized, Type: openai.TypeInvalidRequest, Code: openai.CodeInvalidKey,
		Message: "Incorrect API key provided: it was revoked or has expired.",
	}
}

// storeError is for a limit store that cannot decide.
func storeError(err error) *openai.Error {
	e := &openai.Error{
		Status: http.StatusServiceUnavailable, Type: openai.TypeUnavailable, Code: openai.CodeOverloaded,
		RetryAfter: time.Second, Cause: err,
		Message: "The gateway cannot keep its limits at the moment. Try again shortly.",
	}
	if errors.Is(err, context.Canceled) {
		e.Message = "The request was cancelled before it was admitted."
	}
	return e
}

func internal(err error) *openai.Error {
	return &openai.Error{
		Status: http.StatusInternalServerError, Type: openai.TypeServer, Cause: err,
		Message: "The gateway failed to handle this request.",
	}
}
