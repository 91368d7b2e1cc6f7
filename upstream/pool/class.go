package pool

import (
	"fmt"
	"net/http"
	"slices"
	"time"
)

// Class is what an attempt says about its key.
type Class uint8

// The classes of outcomes.
const (
	Aborted       Class = iota // nothing is learnt: the client left, or a probe had no answer
	OK                         // the upstream has answered as it should
	RateLimited                // 429
	Rejected                   // 401, 403: the key is not valid
	Unpaid                     // 402, or no quota: the key is valid, and there is no money
	ServerError                // 5xx
	Connect                    // no connection came about: the key has nothing to do with it
	Timeout                    // no answer in time
	Disconnect                 // the connection ended before an answer
	RequestFault               // 400, 404, 413, 422, context length, content policy
	UpstreamFault              // the same 5xx on two keys: no strike
	classes                    // how many there are
)

var classNames = [classes]string{
	"aborted", "ok", "rate_limited", "rejected", "unpaid", "server_error", "connect", "timeout", "disconnect", "request_fault", "upstream_fault",
}

// Classes are all of them.
func Classes() []Class {
	all := make([]Class, classes)
	for i := range all {
		all[i] = Class(i)
	}
	return all
}

// String is the class as metrics and logs have it.
func (c Class) String() string {
	if c >= classes {
		return fmt.Sprintf("class(%d)", uint8(c))
	}
	return classNames[c]
}

// MarshalText is String.
func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (c *Class) UnmarshalText(text []byte) error {
	i := slices.Index(classNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("class of an outcome: got %.20q, want one of %q", text, classNames)
	}
	*c = Class(i)
	return nil
}

// Failed tells whether it is a failure of the key or of its upstream.
func (c Class) Failed() bool { return c != Aborted && c != OK && c != RequestFault }

// strikes tells whether it is one that may be the key's fault, and may not.
func (c Class) strikes() bool { return c == ServerError || c == Timeout || c == Disconnect }

// Outcome is how an attempt went.
type Outcome struct {
	Class      Class
	Status     int           // HTTP status; 0 if there was none
	RetryAfter time.Duration // as the upstream told; 0 if it did not
	Tokens     int64         // for statistics, as far as they are known; see [Lease.AddTokens]
}

// ClassOf is the class of an answer, by its HTTP status and the code, or else the
// type, of OpenAI's error envelope; "" if that is not known.
func ClassOf(status int, code string) Class {
	switch {
	case status < 100:
		return Disconnect
	case status < 400:
		return OK
	}
	switch {
	case noQuota(code), status == http.StatusPaymentRequired:
		return Unpaid
	case status == http.StatusTooManyRequests:
		return RateLimited
	case status == http.StatusUnauthorized:
		return Rejected
	case status == http.StatusRequestTimeout:
		return Timeout
	case status < 500 && status != http.StatusForbidden, ofTheRequest(code):
		return RequestFault
	case status == http.StatusForbidden:
		return Rejected
	default:
		return ServerError
	}
}

func noQuota(code string) bool {
	switch code {
	case "insufficient_quota", "billing_hard_limit_reached", "billing_not_active":
		return true
	}
	return false
}

// ofTheRequest tells whether a code of a 403 or a 5xx is about the request: every
// other key would be answered the same.
func ofTheRequest(code string) bool {
	switch code {
	case "context_length_exceeded", "content_policy_violation", "content_filter", "model_not_found",
		"unsupported_country_region_territory", "invalid_request_error":
		return true
	}
	return false
}
