package gateway

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/ratelimit"
)

// slotWait is when to come back for a slot: nobody knows when one comes free.
const slotWait = time.Second

// limitError is the refusal of the limit that a decision names.
func limitError(charges []ratelimit.Charge, d *ratelimit.Decision) *openai.Error {
	c, s := &charges[d.Refused], d.States[d.Refused]
	e := &openai.Error{
		Status: http.StatusTooManyRequests,
		Type:   family(c.Limit.Unit),
		Code:   openai.CodeRateLimit,
		Detail: &openai.Detail{Limit: c.Limit.Name, Scope: scopeName(c.Scope), Used: s.Used, Max: c.Limit.Max},
	}
	whose := scopeName(c.Scope)
	switch {
	case d.TooLarge:
		e.NoRetry = true
		e.Detail.Estimate = c.Cost
		e.Message = fmt.Sprintf("This request may take %d %s, more than the limit %s ever allows (%d in %s, counted for %s). "+
			"Shorten the prompt, or send a lower max_tokens.", c.Cost, unitName(c.Limit.Unit), c.Limit.Name, c.Limit.Max, windowName(c.Limit), whose)
	case c.Limit.Unit == ratelimit.Concurrency:
		e.RetryAfter = min(d.RetryAfter, slotWait)
		e.Message = fmt.Sprintf("Too many requests at a time: the limit %s allows %d, counted for %s, and %d are running. "+
			"Try again when one of them has ended.", c.Limit.Name, c.Limit.Max, whose, s.Used)
	default:
		e.RetryAfter = d.RetryAfter
		e.Message = fmt.Sprintf("Rate limit reached: the limit %s allows %d %s in %s, counted for %s; %d are used and this request needs %d. "+
			"Try again in %s.", c.Limit.Name, c.Limit.Max, unitName(c.Limit.Unit), windowName(c.Limit), whose, s.Used, c.Cost, resetText(d.RetryAfter))
	}
	if c.Limit.Calendar != ratelimit.NoCalendar && !d.TooLarge {
		// Waiting is for tomorrow: SDKs are not to try.
		e.Type, e.Code, e.NoRetry = openai.CodeQuota, openai.CodeQuota, true
	}
	e.Detail.RetryAfterMS = milliseconds(e.RetryAfter)
	e.Extra = limitHeaders(charges, d)
	return e
}

// scopeName is a scope as people read it.
func scopeName(scope string) string {
	if scope == "" {
		return "the whole site"
	}
	return strings.NewReplacer(":", " ", "/", ", ", "%2F", "/", "%3A", ":", "%25", "%").Replace(scope)
}

func unitName(u ratelimit.Unit) string { return strings.ReplaceAll(u.String(), "_", " ") }

// windowName is a limit's window as in "in 1m0s" or "in a day".
func windowName(l *ratelimit.Limit) string {
	if l.Calendar != ratelimit.NoCalendar {
		return "a " + l.Span()
	}
	return l.Span()
}

// family is the kind of limit in error types and headers.
func family(u ratelimit.Unit) string {
	switch u {
	case ratelimit.Requests:
		return openai.TypeRequests
	case ratelimit.Concurrency:
		return openai.TypeConcurrency
	case ratelimit.Tokens, ratelimit.InputTokens, ratelimit.OutputTokens:
		return openai.TypeTokens
	}
	return openai.TypeTokens
}

// limitHeaders are OpenAI's x-ratelimit-* of the tightest limit of each family,
// or of the one that refused.
func limitHeaders(charges []ratelimit.Charge, d *ratelimit.Decision) (headers []openai.Header) {
	for _, f := range []string{openai.TypeRequests, openai.TypeTokens} {
		if i := tightest(charges, d, f); i >= 0 {
			s := d.States[i]
			headers = append(headers,
				openai.Header{Name: "x-ratelimit-limit-" + f, Value: strconv.FormatInt(charges[i].Limit.Max, 10)},
				openai.Header{Name: "x-ratelimit-remaining-" + f, Value: strconv.FormatInt(s.Remaining, 10)},
				openai.Header{Name: "x-ratelimit-reset-" + f, Value: resetText(s.Reset)})
		}
	}
	return headers
}

// tightest is the charge of that family with the least left, -1 if there is none.
func tightest(charges []ratelimit.Charge, d *ratelimit.Decision, f string) int {
	if d.Refused >= 0 && family(charges[d.Refused].Limit.Unit) == f {
		return d.Refused
	}
	best := -1
	for i := range charges {
		if family(charges[i].Limit.Unit) == f && !charges[i].Limit.Shadow && (best < 0 || d.States[i].Remaining < d.States[best].Remaining) {
			best = i
		}
	}
	return best
}

// resetText is a duration as OpenAI's headers have it: 12ms, 1s, 6m0s.
func resetText(d time.Duration) string {
	return (time.Duration(milliseconds(d)) * time.Millisecond).String()
}

// milliseconds rounds up: nobody must come back early.
func milliseconds(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}
