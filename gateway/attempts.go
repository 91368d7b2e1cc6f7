package gateway

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/ratelimit/failover"
	"github.com/weir-gateway/weir/upstream"
	"github.com/weir-gateway/weir/upstream/pool"
)

const (
	// An attempt that failed after so long may have been paid for: that happens
	// to a request twice at most.
	costly     = 10 * time.Second
	mostCostly = 2

	// The pause before a key is used again in the same request, with full jitter.
	firstPause = 25 * time.Millisecond
	longPause  = time.Second
)

// attempts are how a request comes to its answer where that may take more than
// one attempt. Envoy makes them; which upstream and which key each takes is
// decided here. Attempts are told of by streams of their own, so all of it is
// under a lock.
type attempts struct {
	x     *Exchange
	plan  []upstream.Target
	rules []rule // that each attempt is charged by

	mu      sync.Mutex
	made    int        // attempts, also those that never came here
	tries   []int      // by target
	tried   [][]string // ids of keys, by target
	costly  int        // failures after a long time
	current *Attempt   // the newest
	doubted *doubt     // the newest failure of the server, on one key
	kept    *pool.Lease
	keptFor int      // the target of kept
	served  *Attempt // whose answer the client gets
	closed  bool
}

// doubt is a failure of which it is not clear whose fault it was.
type doubt struct {
	lease  *pool.Lease
	key    string // its id
	status int
}

// Attempt is one attempt of a request at one upstream.
type Attempt struct {
	of     *attempts
	target int
	number int         // from 1, as Envoy counts
	lease  *pool.Lease // nil: the upstream has no pool, or all is said
	secret config.Secret
	keyID  string
	begun  time.Time
	pause  time.Duration
	charge *held // of the limits of upstreams; nil: there are none, or it is settled

	status  int  // of its answer; 0 while there is none
	gone    bool // no more will come of it
	reached bool // it may have reached the upstream
	failed  bool // it ended without an answer, and not because the client left
}

// newAttempts plans a request; nil if its only upstream takes it without more ado.
func newAttempts(x *Exchange, plan []upstream.Target, rules []rule) *attempts {
	if len(plan) == 1 && plan[0].Server.Pool == nil && len(rules) == 0 {
		return nil
	}
	return &attempts{x: x, plan: plan, rules: rules, tries: make([]int, len(plan)), tried: make([][]string, len(plan))}
}

// mostTries is how many attempts a request may make at a target.
func (a *attempts) mostTries(target int) int {
	if p := a.plan[target].Server.Upstream.Pool; p != nil {
		return p.Tries
	}
	return 1
}

// Attempts is how many attempts Envoy may make for this request; 1 if it is not
// for weir to tell them apart.
func (x *Exchange) Attempts() int {
	if x.attempts == nil {
		return 1
	}
	n := 0
	for i := range x.attempts.plan {
		n += x.attempts.mostTries(i)
	}
	return n
}

// Attempted tells whether each attempt is to be asked about.
func (x *Exchange) Attempted() bool { return x.attempts != nil }

// Order is where the attempts go as long as nothing else is told: the names of
// upstreams, by the number of the attempt.
func (x *Exchange) Order() []string { return x.attempts.order(0, 0) }

// order is where the attempts after number n go, the next one to that target. The
// list is read by the number of the attempt, and again from its start.
func (a *attempts) order(n, next int) []string {
	list := make([]string, n+len(a.plan))
	for i := range list {
		at := next
		if i > n {
			at = (next + i - n) % len(a.plan)
		}
		list[i] = a.plan[at].Server.Name
	}
	return list
}

// Attempt begins an attempt of a live exchange, which Envoy makes at that upstream
// and gives that number. It waits if the same key is used again. Its answer is
// the attempt, or the error that ends the request.
func (g *Gateway) Attempt(ctx context.Context, exchange, upstream string, number int) (*Attempt, *openai.Error) {
	x, ok := g.named(exchange)
	if !ok || x.attempts == nil {
		return nil, gone()
	}
	a, err := x.attempts.begin(ctx, upstream, number)
	if err != nil {
		return nil, err
	}
	if a.pause > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(a.pause):
		}
	}
	return a, nil
}

// gone is for a request whose client has left: nobody reads it.
func gone() *openai.Error {
	return &openai.Error{
		Status: http.StatusServiceUnavailable, Type: openai.TypeUnavailable, Code: openai.CodeOverloaded,
		Message: "The gateway does not know this request any more.",
	}
}

func (a *attempts) begin(ctx context.Context, name string, number int) (*Attempt, *openai.Error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	target := slices.IndexFunc(a.plan, func(t upstream.Target) bool { return t.Server.Name == name })
	if a.closed || target < 0 {
		return nil, gone()
	}
	if number == 0 {
		number = a.made + 1
	}
	// What was refused before it came here may be told late, and with the number of
	// its successor.
	a.made = max(a.made, number)
	a.supersede()
	if a.costly >= mostCostly || a.tries[target] >= a.mostTries(target) {
		return nil, unanswered()
	}
	at := &Attempt{of: a, target: target, number: a.made, begun: time.Now()}
	if err := a.admit(ctx, at); err != nil {
		return nil, err
	}
	a.tries[target]++
	a.current = at
	a.x.g.metrics.Attempt(name)
	return at, nil
}

// admit takes a credential for the attempt, of which the limits of upstreams allow
// another one.
func (a *attempts) admit(ctx context.Context, at *Attempt) *openai.Error {
	server := a.plan[at.target].Server
	at.secret = server.Credential
	var full []string // ids of keys whose limits are reached
	var first *openai.Error
	for {
		if server.Pool != nil {
			if err := a.choose(at, full); err != nil {
				if first != nil {
					return first
				}
				return err
			}
		}
		ofKey, err := a.reserve(ctx, at)
		if err == nil {
			break
		}
		at.done(pool.Outcome{Class: pool.Abandoned})
		if !ofKey || server.Pool == nil {
			return err
		}
		if first == nil || err.RetryAfter < first.RetryAfter {
			first = err
		}
		full = append(full, at.keyID)
	}
	if tried := a.tried[at.target]; server.Pool != nil && !slices.Contains(tried, at.keyID) {
		a.tried[at.target] = append(tried, at.keyID)
	}
	return nil
}

// choose takes a key: the one that was kept for the attempt, or one that this
// request has not tried, or else one again, after a pause.
func (a *attempts) choose(at *Attempt, full []string) *openai.Error {
	lease := a.take(at.target)
	if lease == nil {
		lease, _ = a.untried(at.target, full)
	}
	if lease == nil {
		var err error
		if lease, err = a.again(at.target, full); err != nil {
			return noKey(err)
		}
	}
	key := lease.Key()
	if slices.Contains(a.tried[at.target], key.ID) {
		at.pause = pause(a.tries[at.target])
	}
	at.lease, at.secret, at.keyID = lease, key.Secret, key.ID
	return nil
}

// untried picks a key that this request has not tried, if it may try another, and
// whose limits are not reached.
func (a *attempts) untried(target int, full []string) (*pool.Lease, error) {
	server, tried := a.plan[target].Server, a.tried[target]
	if len(tried) >= server.Upstream.Pool.MaxKeys {
		return nil, &pool.NoKeyError{Upstream: server.Name, Tried: len(tried)}
	}
	return server.Pool.Pick(slices.Concat(tried, full), nil)
}

// again picks one of the keys that this request has tried.
func (a *attempts) again(target int, full []string) (*pool.Lease, error) {
	return a.plan[target].Server.Pool.Pick(full, func(k *pool.Key) bool { return !slices.Contains(a.tried[target], k.ID) })
}

// take is the key that was kept for an attempt at that target, nil if there is none.
func (a *attempts) take(target int) *pool.Lease {
	if a.keptFor != target {
		a.drop()
	}
	lease := a.kept
	a.kept = nil
	return lease
}

// reserve charges the limits of upstreams for the attempt. An error of the key is one
// that another key may not have.
func (a *attempts) reserve(ctx context.Context, at *Attempt) (ofKey bool, err *openai.Error) {
	if len(a.rules) == 0 {
		return false, nil
	}
	x, h := a.x, &held{id: a.x.g.nextID(), charges: make([]ratelimit.Charge, len(a.rules))}
	policies := make([]failover.Policy, len(a.rules))
	for i := range a.rules {
		r := &a.rules[i]
		h.charges[i] = ratelimit.Charge{Limit: r.limit, Scope: r.scopeAt(x.model.Name, a.plan[at.target].Server.Name, at.keyID), Cost: x.cost(r)}
		policies[i] = r.failure
	}
	d, mode, cause := x.g.limits.Admit(ctx, h.id, h.charges, policies, ratelimit.AdmitOptions{})
	switch {
	case cause != nil:
		return false, storeError(cause)
	case !d.Admitted:
		e := alone(limitError(h.charges, &d), mode)
		e.Extra = nil // the headers tell of the client's own limits
		return a.rules[d.Refused].at == atKey, e
	}
	at.charge = h
	x.g.live.hold(h)
	return false, nil
}

// release settles what the attempt was charged: nothing if it did not reach the
// upstream, and no tokens if it failed there.
func (at *Attempt) release(reached bool, actual amounts) {
	h := at.charge
	if h == nil {
		return
	}
	at.charge = nil
	g := at.of.x.g
	g.live.letGo(h)
	at.of.x.tell(func(ctx context.Context) error {
		if !reached {
			return g.limits.Cancel(ctx, h.id)
		}
		list := make([]int64, len(h.charges))
		for i := range h.charges {
			list[i] = actual.of(h.charges[i].Limit.Unit)
		}
		return g.limits.Settle(ctx, h.id, list)
	})
}

// pause is how long to wait before try number n+1 of a key: exponential, with full
// jitter.
func pause(n int) time.Duration {
	return rand.N(min(firstPause<<min(n, 10), longPause)) + 1
}

// supersede is told that the newest attempt has had no answer, and that Envoy goes
// on without it.
func (a *attempts) supersede() {
	if at := a.current; at != nil && at.status == 0 && !at.failed {
		at.failed = true
		if time.Since(at.begun) > costly {
			a.costly++
		}
		a.plan[at.target].Server.Note(false)
		at.resolve()
	}
}

// resolve gives the key back once it is known that the attempt failed, and whether
// it got as far as the upstream.
func (at *Attempt) resolve() {
	if !at.failed || !at.gone {
		return
	}
	at.release(at.reached, amounts{})
	if at.lease == nil {
		return
	}
	class := pool.Abandoned // no connection: the key has nothing to do with it
	if at.reached {
		class = pool.Unreached
	}
	at.done(pool.Outcome{Class: class})
}

func (at *Attempt) done(o pool.Outcome) {
	if at.lease != nil {
		at.lease.Done(o)
		at.lease = nil
	}
}

// drop gives back the key that was kept for an attempt that did not come.
func (a *attempts) drop() {
	if a.kept != nil {
		a.kept.Done(pool.Outcome{Class: pool.Abandoned})
		a.kept = nil
	}
}

// Credential is what the upstream is to be shown; "" is nothing.
func (at *Attempt) Credential() config.Secret { return at.secret }

// Path is what to ask the upstream for.
func (at *Attempt) Path() string {
	t := &at.of.plan[at.target]
	path := at.of.x.call.Endpoint.Path()
	return t.Server.URL.EscapedPath() + path[len("/v1"):]
}

// Order is where the next attempts go if this one has no answer; nil if there is
// one place only.
func (at *Attempt) Order() []string {
	a := at.of
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.plan) == 1 {
		return nil
	}
	next := at.target
	if p := a.plan[next].Server.Pool; p == nil || p.Usable() <= len(a.tried[next]) || a.tries[next] >= a.mostTries(next) {
		next = (next + 1) % len(a.plan)
	}
	return a.order(at.number, next)
}

// Renamed is what the upstream calls the model, if the request says otherwise.
func (at *Attempt) Renamed() (model string, differs bool) {
	model = at.of.plan[at.target].Model
	return model, model != at.of.plan[0].Model
}

// Length is how long the request's body is as it was admitted, and whether
// attempts change that.
func (at *Attempt) Length() (n int, changes bool) {
	for _, t := range at.of.plan {
		changes = changes || t.Model != at.of.plan[0].Model
	}
	return at.of.x.sent, changes
}

// Rewrite names the model in a request's body as the upstream does.
func (at *Attempt) Rewrite(body []byte) ([]byte, *openai.Error) {
	request, err := openai.ParseRequest(at.of.x.call.Endpoint, body)
	if err != nil {
		return nil, err
	}
	model, _ := at.Renamed()
	return request.Apply(body, openai.Edit{Model: model}), nil
}

// WantsBody tells whether the body of an answer of that status says more: a
// provider that has no money left for a key, or does not like what was asked,
// may answer with the status of one that is asked too often, or of a wrong key.
func (at *Attempt) WantsBody(status int) bool {
	return at.keyID != "" && (status == http.StatusTooManyRequests || status == http.StatusForbidden)
}

// Answered takes the head of the answer, and the beginning of its body where
// WantsBody asked for it. It answers whether Envoy is to try again, and where.
func (at *Attempt) Answered(status int, header func(name string) string, body []byte) (retry bool, order []string) {
	a := at.of
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		at.done(pool.Outcome{Class: pool.Abandoned})
		at.release(true, amounts{})
		return false, nil
	}
	at.status = status
	o := pool.Outcome{Class: classOf(status, body), Status: status}
	server := a.plan[at.target].Server
	a.x.g.metrics.AttemptEnded(server.Name, o.Class.String())
	if o.Class == pool.RateLimited {
		o.RetryAfter = pool.RetryAfter(header, time.Now())
	}
	server.Note(status < http.StatusBadGateway || status > http.StatusGatewayTimeout)
	a.judge(at, o)
	next := a.next(at, o.Class)
	if next < 0 {
		a.served = at
		if o.Class != pool.OK {
			at.release(true, amounts{})
		}
		return false, nil
	}
	at.release(true, amounts{})
	if time.Since(at.begun) > costly {
		a.costly++
	}
	return true, a.order(at.number, next)
}

// classOf is what an answer says of its key. A page in the place of the API's own
// error is a firewall's, which does not like the request: if that were held against
// the key, any client could have all keys put aside.
func classOf(status int, body []byte) pool.Class {
	if status == http.StatusForbidden && bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")) {
		return pool.RequestFault
	}
	return pool.ClassOf(status, openai.ErrorCode(body))
}

// judge tells the pool how its key did. The same error of the server on two keys
// is not the keys' fault.
func (a *attempts) judge(at *Attempt, o pool.Outcome) {
	switch d := a.doubted; {
	case at.lease == nil:
	case o.Class == pool.OK:
		at.lease.Learn(o) // it ends with the answer
	case o.Class != pool.ServerError:
		at.done(o)
	case d != nil && d.status == o.Status && d.key != at.keyID:
		d.lease.Excuse()
		o.Class = pool.UpstreamFault
		at.done(o)
	default:
		a.doubted = &doubt{lease: at.lease, key: at.keyID, status: o.Status}
		at.done(o)
	}
}

// next is the target of the next attempt after a failure, -1 if there is none: the
// pool's next key, then the next upstream, then, where the server failed, the
// same key again.
func (a *attempts) next(at *Attempt, class pool.Class) int {
	switch class {
	case pool.RateLimited, pool.Rejected, pool.Unpaid, pool.ServerError, pool.UpstreamFault, pool.Unreached:
	case pool.OK, pool.RequestFault, pool.Abandoned:
		return -1
	}
	if a.costly > 0 && time.Since(at.begun) > costly {
		return -1
	}
	more := a.plan[at.target].Server.Pool != nil && a.tries[at.target] < a.mostTries(at.target)
	if more && a.keep(at.target, a.untried) {
		return at.target
	}
	for i := range a.plan {
		if a.tries[i] == 0 && a.plan[i].Server.Usable() {
			return i
		}
	}
	again := class == pool.ServerError || class == pool.UpstreamFault || class == pool.Unreached
	if more && again && a.keep(at.target, a.again) {
		return at.target
	}
	return -1
}

// keep has a key for the next attempt at a target, so that nobody else takes it
// before Envoy begins that. It answers false if there is none.
func (a *attempts) keep(target int, pick func(target int, full []string) (*pool.Lease, error)) bool {
	lease, err := pick(target, nil)
	if err != nil {
		return false
	}
	a.drop()
	a.kept, a.keptFor = lease, target
	return true
}

// End says that Envoy tells no more of the attempt. Reached tells whether it may
// have reached the upstream.
func (at *Attempt) End(reached bool) {
	a := at.of
	a.mu.Lock()
	defer a.mu.Unlock()
	at.gone, at.reached = true, reached
	if a.closed && at.status == 0 && !at.failed {
		at.done(pool.Outcome{Class: pool.Abandoned})
		at.release(reached, amounts{})
		return
	}
	at.resolve()
}

// close ends all attempts with the request, which took those amounts. Failed tells
// that Envoy gave up.
func (a *attempts) close(actual amounts, failed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	if failed {
		a.supersede()
	}
	a.closed = true
	a.drop()
	if at := a.served; at != nil {
		at.done(pool.Outcome{Class: pool.OK, Status: at.status, Tokens: actual.input + actual.output})
		at.release(true, actual)
	}
	if at := a.current; at != nil && at != a.served && !at.failed {
		at.done(pool.Outcome{Class: pool.Abandoned})
		at.release(true, actual)
	}
}

// server is the upstream whose answer the client got, and the id of its key.
func (a *attempts) server() (name, key string, made int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := a.served
	if at == nil {
		at = a.current
	}
	if at == nil {
		return "", "", a.made
	}
	return a.plan[at.target].Server.Name, at.keyID, a.made
}

// fallback is the model that really answered, if that is not the one planned.
func (a *attempts) fallback() (model string, differs bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.served == nil || a.served.target == 0 {
		return "", false
	}
	return a.plan[a.served.target].Model, true
}

// refusal is the error of a request whose last attempt was refused for its key,
// when no other key is left; nil lets the upstream's own answer pass.
func (a *attempts) refusal() *openai.Error {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := a.served
	if at == nil || a.plan[at.target].Server.Pool == nil {
		return nil
	}
	switch pool.ClassOf(at.status, "") {
	case pool.RateLimited, pool.Rejected, pool.Unpaid:
	default:
		return nil
	}
	if none := a.plan[at.target].Server.Pool.Unusable(); none != nil {
		return noKey(none)
	}
	return nil
}

// unanswered ends a request whose attempts all broke off.
func unanswered() *openai.Error {
	return &openai.Error{
		Status: http.StatusBadGateway, Type: openai.TypeServer, Code: openai.CodeUpstreamError,
		Message: "The upstream server broke the connection off before it answered, more than once.",
	}
}

// noKey is the refusal of a request that no key is there for.
func noKey(err error) *openai.Error {
	const mending = 30 * time.Second // it takes a person, or the next probe
	e := &openai.Error{
		Status: http.StatusServiceUnavailable, Type: openai.TypeUnavailable, Code: openai.CodeNoUpstream, RetryAfter: mending, Cause: err,
		Message: "No upstream can take this request at the moment: the gateway has no key left that is accepted there.",
	}
	var none *pool.NoKeyError
	if !errors.As(err, &none) || none.Cooling == 0 {
		return e
	}
	e.RetryAfter = max(none.Soonest, time.Millisecond)
	if none.Quarantined+none.Disabled > 0 {
		return e
	}
	e.Status, e.Type, e.Code = http.StatusTooManyRequests, openai.TypeRequests, openai.CodeRateLimit
	e.Detail = &openai.Detail{RetryAfterMS: milliseconds(e.RetryAfter)}
	e.Message = "The upstream takes no more requests at the moment, with none of the gateway's " + strconv.Itoa(none.Cooling) +
		" keys. Try again in " + resetText(e.RetryAfter) + "."
	return e
}
