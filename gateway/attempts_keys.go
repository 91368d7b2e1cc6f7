package gateway

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/upstream/pool"
)

// doubt is a failure of which it is not clear whose fault it was.
type doubt struct {
	lease  *pool.Lease
	key    string // its id
	status int
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
		at.unused()
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

// pause is how long to wait before try number n+1 of a key: exponential, with full
// jitter.
func pause(n int) time.Duration {
	return rand.N(min(firstPause<<min(n, 10), longPause)) + 1
}

// drop gives back the key that was kept for an attempt that did not come.
func (a *attempts) drop() {
	if a.kept != nil {
		a.kept.Return()
		a.kept = nil
	}
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
	case pool.RateLimited, pool.Rejected, pool.Unpaid, pool.ServerError, pool.UpstreamFault, pool.Connect, pool.Timeout, pool.Disconnect:
	case pool.OK, pool.RequestFault, pool.Aborted:
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
	again := class == pool.ServerError || class == pool.UpstreamFault || class == pool.Timeout || class == pool.Disconnect
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
