package gateway

import (
	"net/url"
	"strconv"

	"github.com/weir-gateway/weir/ledger"
	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/telemetry"
)

// Names of the headers of a trace.
const (
	headerParent = "traceparent"
	headerState  = "tracestate"
)

// Trace is what the headers of the request are to say of its trace, to the upstream: the
// exchange's span is the parent of what happens there. Nothing without traces.
func (x *Exchange) Trace() (set []openai.Header, remove []string) {
	if x.span == nil {
		return nil, nil
	}
	passed := x.span.Passed()
	set = []openai.Header{{Name: headerParent, Value: passed.Parent}}
	switch {
	case passed.State != "":
		set = append(set, openai.Header{Name: headerState, Value: passed.State})
	case x.call.Trace.State != "": // which does not belong to this parent
		remove = []string{headerState}
	}
	return set, remove
}

// trace ends the exchange's span.
func (x *Exchange) trace(r *ledger.Record, a *telemetry.Answer) {
	t := telemetry.Exchange{
		Answer: *a, RequestID: r.RequestID, Key: r.KeyID, Status: r.Status, Outcome: string(r.Outcome), Source: string(r.Source),
		Limit: r.Limit, Finish: x.reasons, Attempts: r.Attempts, UpstreamKey: r.UpstreamKeyID,
	}
	if u := x.address(); u != nil {
		t.Host, t.Port = u.Hostname(), port(u)
	}
	x.span.End(&t)
}

// address is that of the upstream that answered, or was asked last; nil: none was asked.
func (x *Exchange) address() *url.URL {
	t := x.target
	if x.attempts != nil {
		if last, ok := x.attempts.answered(); ok {
			t = last
		}
	}
	if t.Server == nil {
		return nil
	}
	return t.Server.URL
}

// port is a URL's, or that of its scheme.
func port(u *url.URL) int {
	if n, err := strconv.Atoi(u.Port()); err == nil {
		return n
	}
	if u.Scheme == "https" {
		return 443
	}
	return 80
}
