package simulator

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
)

// refusal is an error answer in one of vLLM's shapes.
type refusal struct {
	status  int
	message string
	kind    string // error.type
	param   string // error.param; "" is null
	plain   string // the body, in place of all above
}

// Error describes the refusal as the ledger's owner wants to read it.
func (e *refusal) Error() string {
	return fmt.Sprintf("%d %s", e.status, cmp.Or(e.message, e.plain))
}

func (e *refusal) body() []byte {
	if e.plain != "" {
		return []byte(e.plain)
	}
	b := append([]byte(nil), `{"error":{"message":`...)
	b = appendQuoted(b, e.message)
	b = append(b, `,"type":`...)
	b = appendQuoted(b, e.kind)
	b = append(b, `,"param":`...)
	if e.param == "" {
		b = append(b, "null"...)
	} else {
		b = appendQuoted(b, e.param)
	}
	return fmt.Appendf(b, `,"code":%d}}`, e.status)
}

// write writes the refusal. A client that left does not matter any more.
func (e *refusal) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.status)
	_, _ = w.Write(e.body())
}

// The refusals of FastAPI and of the key check, which are no error objects.
func notFound() error {
	return &refusal{status: http.StatusNotFound, plain: `{"detail":"Not Found"}`}
}

func badMethod() error {
	return &refusal{status: http.StatusMethodNotAllowed, plain: `{"detail":"Method Not Allowed"}`}
}

func unauthorized() *refusal {
	return &refusal{status: http.StatusUnauthorized, plain: `{"error":"Unauthorized"}`}
}

// badRequest is a refusal by vLLM's own checks.
func badRequest(param, format string, args ...any) error {
	return &refusal{
		status: http.StatusBadRequest, kind: "BadRequestError",
		param: param, message: fmt.Sprintf(format, args...),
	}
}

// invalid is a refusal by the validation of the body. loc is where in the body,
// such as "body.messages"; kind and what are pydantic's words.
func invalid(loc, kind, what string) error {
	return &refusal{
		status: http.StatusBadRequest, kind: "Bad Request", param: loc,
		message: fmt.Sprintf("1 validation error:\n  {'type': '%s', 'loc': '%s', 'msg': '%s'}", kind, loc, what),
	}
}

func unknownModel(name string, models []Model) error {
	names := make([]string, len(models))
	for i, m := range models {
		names[i] = m.Name
	}
	return &refusal{
		status: http.StatusNotFound, kind: "NotFoundError", param: "model",
		message: fmt.Sprintf("The model `%s` does not exist. Valid aliases: %s.", name, strings.Join(names, ", ")),
	}
}

// scriptedStatus is what vLLM answers with a status.
func scriptedStatus(status int) *refusal {
	e := &refusal{status: status, kind: http.StatusText(status), message: http.StatusText(status) + " (scripted)"}
	switch status {
	case http.StatusUnauthorized:
		return unauthorized()
	case http.StatusBadRequest:
		e.kind = "BadRequestError"
	case http.StatusNotFound:
		e.kind = "NotFoundError"
	case http.StatusInternalServerError:
		e.kind, e.message = "InternalServerError", engineDied
	case http.StatusServiceUnavailable:
		e.message = "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."
	}
	if e.kind == "" { // a status without a name
		e.kind, e.message = "Error", "scripted status"
	}
	return e
}

const engineDied = "EngineCore encountered an issue. See stack trace (above) for the root cause."
