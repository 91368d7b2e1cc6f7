package openai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// The error types of the envelope.
const (
	TypeInvalidRequest = "invalid_request_error"
	TypePermission     = "permission_error"
	TypeRequests       = "requests"    // a limit on requests
	TypeTokens         = "tokens"      // a limit on tokens
	TypeConcurrency    = "concurrency" // a limit on requests at a time
	TypeUnavailable    = "service_unavailable_error"
	TypeServer         = "server_error"
)

// The error codes of the envelope.
const (
	CodeContextLength    = "context_length_exceeded"
	CodeModelNotFound    = "model_not_found"
	CodeRateLimit        = "rate_limit_exceeded"
	CodeInvalidJSON      = "invalid_json"
	CodeInvalidType      = "invalid_type"
	CodeInvalidValue     = "invalid_value"
	CodeUnsupported      = "unsupported_parameter"
	CodeInvalidForm      = "invalid_form"
	CodeDuplicate        = "duplicate_parameter"
	CodeMissingParameter = "missing_required_parameter"
	CodeInvalidKey       = "invalid_api_key"
	CodeQuota            = "insufficient_quota" // a type too
	CodeOverloaded       = "server_is_overloaded"
	CodeNoUpstream       = "no_upstream"
	CodeUpstreamError    = "upstream_error"
	CodeUpstreamTimeout  = "upstream_timeout"
	CodeTooLarge         = "request_too_large"
	CodeUnknownURL       = "unknown_url"
	CodeCancelled        = "request_cancelled"
)

// Whose error it is, as the header x-weir-error-source tells.
const (
	SourceGateway  = "gateway"
	SourceUpstream = "upstream"
)

// MaxRetryWait is the longest wait clients are asked to sit out. The official
// SDKs disagree about anything longer (obey, ignore or give up), so beyond it
// they are told not to retry, the one thing they all respect.
const MaxRetryWait = 60 * time.Second

// Error is a refusal or failure as clients see it.
type Error struct {
	Status  int     // HTTP status
	Type    string  // error.type, for example "invalid_request_error"
	Code    string  // error.code; "" is sent as null
	Param   string  // error.param; "" is sent as null
	Message string  // error.message, one or more sentences for people
	Detail  *Detail // error.weir; omitted when nil

	RetryAfter time.Duration // retry-after and retry-after-ms; 0 sends neither
	NoRetry    bool          // x-should-retry: false; implied by a RetryAfter above 60 s
	Source     string        // x-weir-error-source; "" means SourceGateway
	Allow      string        // Allow header of a 405
	Extra      []Header      // more headers

	// Set by For.
	Anthropic bool   // answered in Anthropic's shape
	RequestID string // in it

	Cause error // for logs; never shown to clients
}

// Detail carries an error's numbers for programs, as error.weir. Zero values
// are omitted.
type Detail struct {
	Limit        string `json:"limit,omitempty"`          // name of the limit that refused
	Scope        string `json:"scope,omitempty"`          // whose limit it is
	Used         int64  `json:"used,omitempty"`           // in the limit's unit
	Max          int64  `json:"max,omitempty"`            // in the limit's unit
	RetryAfterMS int64  `json:"retry_after_ms,omitempty"` // milliseconds
	Estimate     int64  `json:"estimate,omitempty"`       // estimated tokens of the request
	Context      int64  `json:"context,omitempty"`        // the model's window in tokens
}

// Header is a response header with a lower-case name.
type Header struct{ Name, Value string }

// Error describes e for logs, with its cause.
func (e *Error) Error() string {
	text := fmt.Sprintf("%d %s: %s", e.Status, e.Type, e.Message)
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// For has e answered as clients of ep expect it: in OpenAI's shape, or in
// Anthropic's with the id of the request. It returns e, and nil for nil.
func (e *Error) For(ep Endpoint, requestID string) *Error {
	if e != nil && ep.Anthropic() {
		e.Anthropic, e.RequestID = true, requestID
	}
	return e
}

// envelope is the error body of OpenAI's API, with the gateway's own numbers
// added as error.weir.
type envelope struct {
	Error openaiError `json:"error"`
}

type openaiError struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
	Detail  *Detail `json:"weir,omitempty"`
}

// Body returns the JSON body. It has no line ends.
func (e *Error) Body() []byte {
	if e.Anthropic {
		return encoded(e.anthropicEnvelope())
	}
	return encoded(envelope{e.openai()})
}

func (e *Error) openai() openaiError {
	return openaiError{e.Message, e.Type, nullable(e.Param), nullable(e.Code), e.Detail}
}

// Event returns the error as an event in the middle of a stream of ep, with the
// empty line that ends it. SDKs raise on the member error in the data of any event,
// and on the type of the event where their dialect has types.
func (e *Error) Event(ep Endpoint) []byte {
	switch {
	case ep.Anthropic():
		return sseEvent("error", encoded(e.anthropicEnvelope()))
	case ep == Responses:
		return sseEvent("error", encoded(struct {
			Type    string      `json:"type"`
			Code    *string     `json:"code"`
			Message string      `json:"message"`
			Param   *string     `json:"param"`
			Error   openaiError `json:"error"`
		}{"error", nullable(e.Code), e.Message, nullable(e.Param), e.openai()}))
	default:
		return sseEvent("", e.Body())
	}
}

// sseEvent is an event of a stream, of that type.
func sseEvent(kind string, data []byte) []byte {
	var b []byte
	if kind != "" {
		b = append(append(append(b, "event: "...), kind...), '\n')
	}
	return append(append(append(b, "data: "...), data...), "\n\n"...)
}

// encoded is v as JSON on one line.
func encoded(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	// Strings and integers only: encoding them cannot fail.
	_ = enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// nullable returns nil, which is encoded as null, for the empty string.
func nullable(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Headers returns the headers that go with Body.
func (e *Error) Headers() []Header {
	source := e.Source
	if source == "" {
		source = SourceGateway
	}
	h := []Header{
		{"content-type", "application/json"},
		{"x-weir-error-source", source},
	}
	if e.RetryAfter > 0 {
		h = append(h,
			Header{"retry-after", roundUp(e.RetryAfter, time.Second)},
			Header{"retry-after-ms", roundUp(e.RetryAfter, time.Millisecond)})
	}
	if e.NoRetry || e.RetryAfter > MaxRetryWait {
		h = append(h, Header{"x-should-retry", "false"})
	}
	if e.Status == http.StatusUnauthorized && e.Code == "" {
		h = append(h, Header{"www-authenticate", "Bearer"})
	}
	if e.Allow != "" {
		h = append(h, Header{"allow", e.Allow})
	}
	if e.Anthropic && e.RequestID != "" {
		h = append(h, Header{HeaderRequestID, e.RequestID})
	}
	return append(h, e.Extra...)
}

// roundUp returns d in whole units, rounded up so that nobody comes back early.
func roundUp(d, unit time.Duration) string {
	n := d / unit
	if d%unit != 0 {
		n++
	}
	return strconv.FormatInt(int64(n), 10)
}

// CutShort is for an answer that its upstream ended before it was complete.
func CutShort() *Error {
	return &Error{
		Type: TypeServer, Code: CodeUpstreamError,
		Message: "The upstream server ended the answer before it was complete.",
	}
}
