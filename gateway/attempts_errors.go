package gateway

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/upstream/pool"
)

// gone is for a request whose client has left: nobody reads it.
func gone() *openai.Error {
	return &openai.Error{
		Status: http.StatusServiceUnavailable, Type: openai.TypeUnavailable, Code: openai.CodeOverloaded,
		Message: "The gateway does not know this request any more.",
	}
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

// late ends a request that has used up its time, so that another attempt would exceed it.
func late(total time.Duration) *openai.Error {
	return &openai.Error{
		Status: http.StatusGatewayTimeout, Type: openai.TypeServer, Code: openai.CodeUpstreamTimeout,
		Message: "The upstream server did not answer in time: it was given " + total.String() + ".",
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
