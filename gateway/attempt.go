package gateway

import (
	"context"
	"net/http"
	"time"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/upstream/pool"
)

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
	late    bool // it failed because time was up
}

// Attempt begins an attempt of a live exchange, which Envoy makes at that upstream
// and gives that number. Its answer is the attempt, which is to begin after its pause, or
// the error that ends the request.
func (g *Gateway) Attempt(ctx context.Context, exchange, upstream string, number int) (*Attempt, *openai.Error) {
	x, ok := g.named(exchange)
	if !ok || x.attempts == nil {
		return nil, gone()
	}
	a, err := x.attempts.begin(ctx, upstream, number)
	if err != nil {
		return nil, x.inDialect(err)
	}
	return a, nil
}

// Pause is how long an attempt waits before it begins: the same key is used again.
func (at *Attempt) Pause() time.Duration { return at.pause }

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
	class := pool.Connect
	switch {
	case at.reached && at.late:
		class = pool.Timeout
	case at.reached:
		class = pool.Disconnect
	}
	at.done(pool.Outcome{Class: class})
}

func (at *Attempt) done(o pool.Outcome) {
	if at.lease != nil {
		at.lease.Done(o)
		at.lease = nil
	}
}

// unused gives the key back that no attempt is made with.
func (at *Attempt) unused() {
	if at.lease != nil {
		at.lease.Return()
		at.lease = nil
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
	request, err := at.of.x.call.parse(body)
	if err != nil {
		return nil, at.of.x.inDialect(err)
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
		at.done(pool.Outcome{Class: pool.Aborted})
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

// End says that Envoy tells no more of the attempt. Reached tells whether it may
// have reached the upstream.
func (at *Attempt) End(reached bool) {
	a := at.of
	a.mu.Lock()
	defer a.mu.Unlock()
	at.gone, at.reached = true, reached
	if a.closed && at.status == 0 && !at.failed {
		at.done(pool.Outcome{Class: pool.Aborted})
		at.release(reached, amounts{})
		return
	}
	at.resolve()
}
