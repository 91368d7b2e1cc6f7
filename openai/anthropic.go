package openai

import "net/http"

// HeaderRequestID is where Anthropic's SDKs look for the id of a request.
const HeaderRequestID = "request-id"

// anthropicEnvelope is the error body of Anthropic's API, with the gateway's own
// words and numbers added as error.weir.
//
// https://docs.anthropic.com/en/api/errors
type anthropicEnvelope struct {
	Type      string         `json:"type"` // "error"
	Error     anthropicError `json:"error"`
	RequestID string         `json:"request_id,omitempty"`
}

type anthropicError struct {
	Type    string  `json:"type"`
	Message string  `json:"message"`
	Detail  *Detail `json:"weir,omitempty"`
}

func (e *Error) anthropicEnvelope() anthropicEnvelope {
	return anthropicEnvelope{"error", anthropicError{anthropicType(e.Status), e.Message, e.Detail}, e.RequestID}
}

// anthropicType is the type of an error with that status; 0 is one in the middle of
// a stream.
func anthropicType(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "authentication_error"
	case http.StatusPaymentRequired:
		return "billing_error"
	case http.StatusForbidden:
		return "permission_error"
	case http.StatusNotFound:
		return "not_found_error"
	case http.StatusRequestEntityTooLarge:
		return "request_too_large"
	case http.StatusTooManyRequests:
		return "rate_limit_error"
	case http.StatusServiceUnavailable:
		return "overloaded_error"
	case http.StatusGatewayTimeout:
		return "timeout_error"
	}
	if 400 <= status && status < 500 {
		return "invalid_request_error"
	}
	return "api_error"
}
