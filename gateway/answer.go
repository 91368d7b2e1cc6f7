package gateway

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/upstream/pool"
)

// Head is the beginning of an answer.
type Head struct {
	Status      int
	ContentType string
	Encoding    string // content-encoding
	RetryAfter  string
	Local       bool // Envoy made it, and no upstream
	Last        bool // there is no body
}

// mime is the media type, in lower case, without its parameters.
func (h *Head) mime() string {
	mime, _, _ := strings.Cut(h.ContentType, ";")
	return strings.ToLower(strings.Trim(mime, " \t"))
}

func (h *Head) encoded() bool { return h.Encoding != "" && h.Encoding != "identity" }

// Streams tells whether the head is that of an event stream that can be read. The script
// inside of Envoy goes by the same words.
func (h *Head) Streams() bool {
	return h.Status >= 200 && h.Status < 300 && h.mime() == "text/event-stream" && !h.encoded()
}

// Plan says what becomes of an answer.
type Plan struct {
	Status  int             // to send instead; 0 keeps the upstream's
	Set     []openai.Header // headers to set
	Remove  []string        // headers to remove
	Observe bool            // the body is to be given to Write, unless Native
	Native  bool            // Envoy reads the body itself
	Watch   bool            // and Expire is to be called when it takes too long
	Instead *openai.Error   // to answer in the upstream's place
}

// Answer takes the head of the answer. After a plan that does not observe the
// body the exchange is settled.
func (x *Exchange) Answer(h Head) Plan {
	x.head = h
	x.status = h.Status
	if x.attempts == nil {
		x.target.Server.Note(!h.Local || h.Status != http.StatusServiceUnavailable)
	}
	var p Plan
	switch {
	case h.Local:
		x.localAnswer(h)
	case h.Status >= 200 && h.Status < 300:
		p = x.goodAnswer(h)
	default:
		p = x.badAnswer(h)
	}
	switch {
	case p.Native:
		x.phase.Store(uint32(Natively))
	case p.Observe:
		x.phase.Store(uint32(Answering))
	}
	p.Set = append(append(p.Set, x.headers...), x.dialectHeaders()...)
	p.Instead = x.inDialect(p.Instead)
	if h.Last && p.Observe {
		x.Write(nil, true)
	}
	return p
}

// localAnswer is one that Envoy made because there was none.
func (x *Exchange) localAnswer(h Head) {
	x.errorType = openai.TypeServer
	if x.attempts != nil {
		x.attempts.fail(h.Status)
	}
	switch h.Status {
	case http.StatusServiceUnavailable: // no connection, or no key
		x.errorType = openai.TypeUnavailable
		x.unreached()
	case http.StatusTooManyRequests:
		x.errorType = openai.TypeRequests
		x.unreached()
	default:
		x.failed()
	}
}

// goodAnswer chooses the meter. The content type decides, not the request: some
// servers answer a request for a stream with JSON.
func (x *Exchange) goodAnswer(h Head) (p Plan) {
	p.Observe = true
	mime := h.mime()
	defer func() {
		if x.rename(mime) {
			p.Remove = []string{"content-length"}
		}
	}()
	switch {
	case h.encoded():
		x.meter = &bytesMeter{}
	case h.Streams():
		m := newStreamMeter(x.call.Endpoint, x.asked, x.guess)
		m.events.PerPrompt = x.perPrompt
		x.meter = m
		if x.native {
			x.meter, p.Native = &nativeMeter{perPrompt: x.perPrompt}, true
		}
		p.Remove = []string{"content-length"} // events may be taken out or added
		p.Watch = x.watched()
		p.Set = []openai.Header{{Name: "cache-control", Value: "no-cache"}, {Name: "x-accel-buffering", Value: "no"}}
	case mime == "application/json":
		x.meter = newPlainMeter(x.call.Endpoint)
	default:
		x.meter = &bytesMeter{}
	}
	x.g.metrics.Metered(p.Native)
	p.Set = append(p.Set, openai.Header{Name: "x-weir-overhead-ms", Value: formatMS(x.overhead)})
	if model := x.served(); model != x.asking {
		p.Set = append(p.Set, openai.Header{Name: "x-weir-model", Value: model})
	}
	return p
}

// rename has the answer name the model as the client did, if that is wanted, and
// tells whether it does. What cannot be read stays as it is.
func (x *Exchange) rename(mime string) bool {
	if _, opaque := x.meter.(*bytesMeter); opaque || !x.model.Rewrite {
		return false
	}
	x.renamer = openai.NewRenamer(x.call.Endpoint, x.asking, mime == "text/event-stream")
	return true
}

// served is the model that answers: its own name, or what it is called at the
// upstream that was fallen back to.
func (x *Exchange) served() string {
	if x.attempts != nil {
		if model, differs := x.attempts.fallback(); differs {
			return model
		}
	}
	return x.model.Name
}

// badAnswer is an upstream's error.
func (x *Exchange) badAnswer(h Head) Plan {
	if x.attempts != nil {
		if e := x.attempts.refusal(); e != nil {
			x.status, x.errorType = e.Status, e.Type
			x.failed()
			return Plan{Instead: e}
		}
	}
	status := clientStatus(h.Status)
	if status == 0 {
		e := &openai.Error{
			Status: http.StatusBadGateway, Type: openai.TypeServer, Code: openai.CodeUpstreamError, Source: openai.SourceUpstream,
			Message: "The upstream server did not take the gateway's request. This is for the operator of the gateway to mend.",
		}
		x.g.log.Error().Str("upstream", x.Upstream()).Int("status", h.Status).Str("request_id", x.call.RequestID).
			Msg("the upstream refuses the gateway itself: check its url and its key")
		x.status, x.errorType = e.Status, e.Type
		x.failed()
		return Plan{Instead: e}
	}
	x.status = status
	m := &errorMeter{x: x, status: status, opaque: h.Encoding != "" && h.Encoding != "identity"}
	x.meter = m
	p := Plan{
		Status: status, Observe: true,
		Remove: []string{"content-length", "content-encoding"},
		Set:    []openai.Header{{Name: "content-type", Value: "application/json"}, {Name: "x-weir-error-source", Value: openai.SourceUpstream}},
	}
	if tooLong(h.RetryAfter) {
		p.Set = append(p.Set, openai.Header{Name: "x-should-retry", Value: "false"})
	}
	if h.Last { // an error without a body gets one
		e := upstreamError(status, x.call.Endpoint, nil)
		x.errorType = e.Type
		x.failed()
		e.RetryAfter = retryAfter(h.RetryAfter)
		return Plan{Instead: e}
	}
	return p
}

// unquoted is an upstream's error without the credential that it was shown: some quote it,
// as it is or in the escapes of JSON.
func (x *Exchange) unquoted(status int, body []byte) *openai.Error {
	shown := x.target.Server.Credential
	if x.attempts != nil {
		shown = x.attempts.shown()
	}
	if shown == "" {
		return upstreamError(status, x.call.Endpoint, body)
	}
	const instead = "…"
	// Before anything is cut short, and after it was read.
	e := upstreamError(status, x.call.Endpoint, bytes.ReplaceAll(body, []byte(shown.Reveal()), []byte(instead)))
	for _, text := range []*string{&e.Message, &e.Code, &e.Param} {
		*text = strings.ReplaceAll(*text, shown.Reveal(), instead)
	}
	return e
}

// clientStatus is what clients get for an upstream's status: client errors as
// they are, server errors as the gateway's own kinds. It is 0 for what only the
// operator can mend: credentials, payment, redirections.
func clientStatus(status int) int {
	switch status {
	case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden, http.StatusProxyAuthRequired:
		return 0
	case http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return status
	}
	switch {
	case status < 400:
		return 0
	case status < 500:
		return status
	default:
		return http.StatusBadGateway
	}
}

// tooLong tells whether an upstream's retry-after is longer than clients should
// be made to wait.
func tooLong(header string) bool { return retryAfter(header) > openai.MaxRetryWait }

// retryAfter is what the header retry-after tells.
func retryAfter(header string) time.Duration {
	return pool.RetryAfter(func(name string) string {
		if name == "retry-after" {
			return header
		}
		return ""
	}, time.Now())
}

// formatMS is a duration in milliseconds with three decimals.
func formatMS(d time.Duration) string {
	return strconv.FormatFloat(toMS(d), 'f', 3, 64)
}

func toMS(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
