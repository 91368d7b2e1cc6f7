package gateway

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/openai"
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
	refused bool     // there was no key, or a limit, for the newest
	closed  bool
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
	if a.made == 0 {
		a.unseen(number - 1)
	}
	// What was refused before it came here may be told late, and with the number of
	// its successor.
	a.made = max(a.made, number)
	a.supersede(false)
	if total := a.x.timeouts.Total; total > 0 && time.Since(a.x.call.Start) >= total {
		return nil, late(total)
	}
	if a.costly >= mostCostly || a.tries[target] >= a.mostTries(target) {
		return nil, unanswered()
	}
	at := &Attempt{of: a, target: target, number: a.made, begun: time.Now()}
	if err := a.admit(ctx, at); err != nil {
		a.refused = true
		return nil, err
	}
	a.tries[target]++
	a.current = at
	a.x.g.metrics.Attempt(name)
	return at, nil
}

// supersede is told that the newest attempt has had no answer, and that Envoy goes
// on without it. Late tells that its time was up; of an attempt before the last, its
// age tells.
func (a *attempts) supersede(late bool) {
	const inexact = 50 * time.Millisecond // Envoy's clock begins elsewhere
	if at := a.current; at != nil && at.status == 0 && !at.failed {
		t := a.x.timeouts
		late = late || t.FirstByte > 0 && time.Since(at.begun) > t.FirstByte-inexact || t.Total > 0 && time.Since(a.x.call.Start) > t.Total-inexact
		at.failed, at.late = true, late
		if time.Since(at.begun) > costly {
			a.costly++
		}
		a.plan[at.target].Server.Note(false)
		at.resolve()
	}
}

// unseen notes the first n attempts, which were over before weir was asked about them:
// no connection came about. They went along the plan.
func (a *attempts) unseen(n int) {
	for i := range n {
		server := a.plan[i%len(a.plan)].Server
		server.Note(false)
		if server.Pool == nil {
			continue
		}
		if lease, err := server.Pool.Pick(nil, nil); err == nil { // whose turn it was
			lease.Done(pool.Outcome{Class: pool.Connect})
		}
	}
}

// fail ends all attempts: Envoy gave up, and answered with that status.
func (a *attempts) fail(status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	if status == http.StatusServiceUnavailable && a.made == 0 && !a.refused {
		a.unseen(len(a.plan)) // it has tried them all
	}
	a.supersede(status == http.StatusGatewayTimeout)
	a.end(amounts{})
}

// close ends all attempts with the request, which took those amounts.
func (a *attempts) close(actual amounts) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.end(actual)
	}
}

// end is close. a.mu is held.
func (a *attempts) end(actual amounts) {
	a.closed = true
	a.drop()
	if at := a.served; at != nil {
		at.done(pool.Outcome{Class: pool.OK, Status: at.status, Tokens: actual.input + actual.output})
		at.release(true, actual)
	}
	if at := a.current; at != nil && at != a.served && !at.failed {
		at.done(pool.Outcome{Class: pool.Aborted})
		at.release(true, actual)
	}
}

// server is the upstream whose answer the client got, and the id of its key.
func (a *attempts) server() (name, key string, made int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := a.last()
	if at == nil {
		return "", "", a.made
	}
	return a.plan[at.target].Server.Name, at.keyID, a.made
}

// last is the attempt whose answer the client got, or else the newest; nil: there was
// none. a.mu is held.
func (a *attempts) last() *Attempt {
	if a.served != nil {
		return a.served
	}
	return a.current
}

// answered is where the last attempt went.
func (a *attempts) answered() (t upstream.Target, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at := a.last(); at != nil {
		return a.plan[at.target], true
	}
	return upstream.Target{}, false
}

// shown is the credential that the last attempt showed its upstream; "" is none.
func (a *attempts) shown() config.Secret {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at := a.last(); at != nil {
		return at.secret
	}
	return ""
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
