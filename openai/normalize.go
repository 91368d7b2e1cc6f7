package openai

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// maxMessage bounds the message taken over from an upstream, in bytes.
	maxMessage = 4 << 10
	// maxWord bounds a type, code or parameter name taken over, in bytes.
	maxWord = 128
	// maxErrorBody bounds what is parsed of an upstream's error body, in bytes.
	maxErrorBody = 1 << 20
)

// NormalizeError turns an upstream's error body into an Error of the same
// status. It knows these shapes:
//
//	{"error":{"message":…,"type":"BadRequestError","param":…,"code":400}}  vLLM, llama.cpp, OpenAI
//	{"object":"error","message":…,"type":…,"param":…,"code":400}          vLLM before 0.11
//	{"error":"Unauthorized"}                                              vLLM's --api-key, Ollama
//	{"detail":"Not Found"}, {"detail":[{"loc":[…],"msg":…}]}              FastAPI
//
// The upstream's message is kept, bounded to 4 KiB of valid UTF-8; from plain
// text too, but not from a page of HTML. Types become OpenAI's, codes become
// strings or null, and errors about the context window, an unknown model or a
// rate limit get the code by which clients recognise them.
func NormalizeError(status int, ep Endpoint, body []byte) *Error {
	u := readUpstreamError(body)
	e := &Error{
		Status:  status,
		Type:    errorType(status, u.Type),
		Code:    word(u.Code),
		Param:   param(u.Param),
		Message: bounded(u.Message),
		Source:  SourceUpstream,
	}
	if e.Message == "" {
		e.Message = "The upstream answered " + statusText(status) + " without a message."
	}
	switch {
	case contextExceeded(status, u):
		e.Type, e.Code, e.Param = TypeInvalidRequest, CodeContextLength, ep.promptMember()
	case status == http.StatusNotFound && unknownModel(u):
		e.Type, e.Code, e.Param = TypeInvalidRequest, CodeModelNotFound, "model"
	case status == http.StatusTooManyRequests && e.Code == "":
		e.Code = CodeRateLimit
	}
	return e
}

// upstreamError is what an error body says, before it is judged.
type upstreamError struct{ Message, Type, Param, Code string }

// readUpstreamError reads any of the shapes that NormalizeError lists.
func readUpstreamError(body []byte) upstreamError {
	body = bytes.TrimSpace(body)
	var v struct {
		Error, Detail json.RawMessage
		errorMembers
	}
	switch {
	case len(body) == 0 || len(body) > maxErrorBody || body[0] == '<':
		return upstreamError{}
	case json.Unmarshal(body, &v) != nil:
		return upstreamError{Message: string(body)}
	}
	var inner errorMembers
	if json.Unmarshal(v.Error, &inner) == nil && v.Error[0] == '{' {
		return inner.read()
	}
	u := v.read()
	for _, text := range []string{text(v.Error), detail(v.Detail)} {
		if u.Message == "" {
			u.Message = text
		}
	}
	return u
}

// errorMembers are the members of an error object, of whatever JSON type.
type errorMembers struct{ Message, Type, Param, Code json.RawMessage }

func (m errorMembers) read() upstreamError {
	return upstreamError{text(m.Message), text(m.Type), text(m.Param), text(m.Code)}
}

// text returns the JSON string raw, "" for any other value.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// detail returns the messages of FastAPI's "detail": a text, or a list of
// validation errors.
func detail(raw json.RawMessage) string {
	var list []struct {
		Loc []any
		Msg string
	}
	if json.Unmarshal(raw, &list) != nil {
		return text(raw)
	}
	var lines []string
	for _, d := range list {
		line := d.Msg
		if n := len(d.Loc); n > 0 {
			if name, ok := d.Loc[n-1].(string); ok {
				line = name + ": " + line
			}
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "; ")
}

// errorType keeps a type written as OpenAI writes them and otherwise (class
// names, titles, nothing) derives it from the status.
func errorType(status int, given string) string {
	switch {
	case status == http.StatusTooManyRequests && given != "tokens" && given != "insufficient_quota":
		return TypeRequests
	case word(given) != "":
		return given
	case status == http.StatusForbidden:
		return TypePermission
	case status == http.StatusServiceUnavailable:
		return TypeUnavailable
	case status >= http.StatusInternalServerError:
		return TypeServer
	default:
		return TypeInvalidRequest
	}
}

// word returns s if it is a lower-case identifier such as "invalid_json",
// otherwise "".
func word(s string) string {
	if s == "" || len(s) > maxWord || s[0] < 'a' || s[0] > 'z' {
		return ""
	}
	for i := range len(s) {
		if c := s[i]; c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return ""
		}
	}
	return s
}

// param returns the name of a request member: vLLM's "body.messages" is
// "messages", and its "body" or "body.28" name none.
func param(s string) string {
	s, inBody := strings.CutPrefix(s, "body.")
	digits := inBody && s != "" && s[0] >= '0' && s[0] <= '9'
	if s == "body" || digits || len(s) > maxWord || !utf8.ValidString(s) {
		return ""
	}
	return s
}

// bounded returns s as valid UTF-8 of at most maxMessage bytes.
func bounded(s string) string {
	const ellipsis = "…"
	if len(s) > maxMessage {
		end := maxMessage - len(ellipsis)
		for end > 0 && !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end] + ellipsis
	}
	// The replacement is no longer than one bad byte, so the bound holds.
	return strings.TrimSpace(strings.ToValidUTF8(s, "?"))
}

// statusText returns "503 Service Unavailable".
func statusText(status int) string {
	return strings.TrimSpace(strconv.Itoa(status) + " " + http.StatusText(status))
}

// contextExceeded reports whether u says that prompt and completion do not fit
// the model's context window. No server has a code for it, so it goes by their
// wordings.
func contextExceeded(status int, u upstreamError) bool {
	if u.Type == "exceed_context_size_error" || u.Code == CodeContextLength {
		return true
	}
	if status != http.StatusBadRequest && status != http.StatusUnprocessableEntity &&
		status != http.StatusRequestEntityTooLarge {
		return false
	}
	return containsAny(strings.ToLower(u.Message),
		"maximum context length",               // vLLM, OpenAI
		"cannot be greater than max_model_len", // vLLM: max_tokens alone does not fit
		"longer than the maximum model length", // vLLM before 0.11
		"too long to fit into the model",       // vLLM, multimodal prompts
		// vLLM when the prompt fills the window to the last token. Clients cannot
		// cause it themselves: a max_tokens of 0 is refused before it gets here.
		"max_tokens must be at least 1, got 0",
		"max_completion_tokens must be at least 1, got 0",
		"exceeds the available context size",     // llama.cpp
		"longer than the model's context length", // SGLang
	)
}

// unknownModel reports whether u, of a 404, is about the model.
func unknownModel(u upstreamError) bool {
	m := strings.ToLower(u.Message)
	return u.Code == CodeModelNotFound || strings.Contains(m, "model") &&
		(u.Param == "model" || containsAny(m, "not exist", "not found"))
}

func containsAny(s string, words ...string) bool {
	for _, w := range words {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}

// ErrorCode is the code of an upstream's error body, or else its type; "" if it
// has neither.
func ErrorCode(body []byte) string {
	u := readUpstreamError(body)
	if code := word(u.Code); code != "" {
		return code
	}
	return u.Type
}
