package openai

import (
	"bytes"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"
)

// Bounds of a form.
const (
	maxFormParts  = 64
	maxPartHeader = 8 << 10 // bytes of one part's headers
	maxBoundary   = 70      // characters, as RFC 2046 has it
)

// ParseForm checks the body of a request to an endpoint that takes forms, and
// reads it; contentType is the request's header. Of the parts it notes the model,
// whether the answer is to be streamed, and that there is a file.
//
// Like [ParseRequest] it takes only what every reader takes for the same thing: the
// form begins with its boundary and ends with it, which stands nowhere else; lines
// end in CRLF; a part says once, in form-data and without escapes, what it is
// called; and of the parts that it knows there is one each. Other parts may be
// anything. It allocates little, and nothing that grows with the body.
//
// https://www.rfc-editor.org/rfc/rfc7578, https://www.rfc-editor.org/rfc/rfc2046#section-5.1
func ParseForm(ep Endpoint, contentType string, body []byte) (Request, *Error) {
	boundary, err := formBoundary(contentType)
	if err != nil {
		return Request{}, err
	}
	f := form{b: body, delimiter: []byte("--" + boundary), r: Request{Endpoint: ep, N: 1, boundary: boundary}}
	if err := f.document(); err != nil {
		return Request{}, err
	}
	return f.r, nil
}

// formBoundary is the boundary of a form.
func formBoundary(contentType string) (string, *Error) {
	media, params, err := mime.ParseMediaType(contentType)
	if media != "multipart/form-data" {
		return "", formError("", "This URL takes forms. Send multipart/form-data with the parts 'file' and 'model'.")
	}
	boundary, charset, others := params["boundary"], params["charset"], len(params)
	for _, name := range []string{"boundary", "charset"} {
		if _, ok := params[name]; ok {
			others--
		}
	}
	switch {
	// An asterisk would continue a parameter or give it a character set.
	case err != nil, strings.Contains(contentType, "*"), others != 0, charset != "" && !strings.EqualFold(charset, "utf-8"):
		return "", formError("", "The Content-Type of the form is malformed. Send \"multipart/form-data; boundary=…\" and nothing more.")
	case !validBoundary(boundary):
		return "", formError("", "The boundary of the form is malformed. Use 1 to %d letters, digits, hyphens or underscores.", maxBoundary)
	default:
		return boundary, nil
	}
}

// validBoundary tells whether a boundary is one by RFC 2046, and without spaces.
func validBoundary(s string) bool {
	if s == "" || len(s) > maxBoundary {
		return false
	}
	for i := range len(s) {
		if !isAlphanumeric(s[i]) && strings.IndexByte("'()+_,-./:=?", s[i]) < 0 {
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'z'
}

func formError(param, format string, args ...any) *Error {
	return &Error{
		Status: http.StatusBadRequest, Type: TypeInvalidRequest, Code: CodeInvalidForm, Param: param,
		Message: fmt.Sprintf(format, args...),
	}
}

// form reads a form's parts into a Request.
type form struct {
	b         []byte
	i         int // next byte
	delimiter []byte
	r         Request
	seen      [len(formFields)]bool
}

// formFields are the parts that have a meaning to the gateway or to the engine's
// own scheduling. A form must not be able to write their names in another way.
var formFields = [...]string{
	"model", "file", "stream", "stream_include_usage", "stream_continuous_usage_stats", "vllm_xargs",
	"use_beam_search", "n", "max_completion_tokens", "prompt", "response_format", "language",
}

// document reads the whole form.
func (f *form) document() *Error {
	if !bytes.HasPrefix(f.b, f.delimiter) {
		return formError("", "The form does not begin with its boundary, at byte 0. Send it with nothing before that.")
	}
	f.i = len(f.delimiter)
	for n := 0; ; n++ {
		rest := f.b[f.i:]
		switch {
		case bytes.HasPrefix(rest, crlf):
			f.i += len(crlf)
		case bytes.Equal(rest, []byte("--")), bytes.Equal(rest, []byte("--\r\n")):
			return f.complete()
		case bytes.HasPrefix(rest, []byte("--")):
			return formError("", "There is more text after the form's end, at byte %d. Send one form and nothing after it.", f.i+2)
		default:
			return formError("", "The boundary at byte %d is followed by neither a line end nor the form's end. Use another boundary, which is not part of the content.", f.i-len(f.delimiter))
		}
		if n == maxFormParts {
			return formError("", "The form has more than %d parts at byte %d. Leave out those it does not need.", maxFormParts, f.i)
		}
		if err := f.part(); err != nil {
			return err
		}
	}
}

var crlf = []byte("\r\n")

// part reads one part, and the boundary after it.
func (f *form) part() *Error {
	head, err := f.partHead()
	if err != nil {
		return err
	}
	start := f.i
	n := bytes.Index(f.b[start:], f.delimiter)
	if n < 0 {
		return formError("", "The form ends inside the part that begins at byte %d. Send the complete body.", start)
	}
	end := start + n - len(crlf)
	if end < start || !bytes.Equal(f.b[end:start+n], crlf) {
		return formError("", "The form's boundary stands inside a part, at byte %d. Use another boundary, which is not part of the content.", start+n)
	}
	f.i = start + n + len(f.delimiter)
	return f.field(head, span{start, end})
}

// field notes a part.
func (f *form) field(head partHead, content span) *Error {
	known := -1
	for i, name := range formFields {
		if head.name == name {
			known = i
		} else if foldsTo(head.name, name) {
			return formError(name, "The name of the part at byte %d is not written as '%s'. Write it in lower case.", head.at, name)
		}
	}
	if known < 0 {
		return nil
	}
	if f.seen[known] {
		err := formError(head.name, "Duplicate part '%s' at byte %d. Send it once.", head.name, head.at)
		err.Code = CodeDuplicate
		return err
	}
	f.seen[known] = true
	if head.name == "file" {
		if !head.file {
			return formError("file", "The part 'file' at byte %d has no filename. Send it as a file.", head.at)
		}
		f.r.prompt = content
		return nil
	}
	if head.file || !head.text {
		return formError(head.name, "The part '%s' at byte %d must be plain text in UTF-8, without a filename.", head.name, head.at)
	}
	return f.value(head, content)
}

// foldsTo tells whether a name is the known one in another case.
func foldsTo(name, known string) bool { return strings.EqualFold(name, known) }

// value reads the content of a field that decides something.
func (f *form) value(head partHead, content span) *Error {
	text := content.of(f.b)
	switch head.name {
	case "model":
		if !utf8.Valid(text) || !visible(text) {
			return formValue(head, "1 to %d visible characters without spaces", maxModel)
		}
		f.r.Model, f.r.model = string(text), content
	case "stream":
		switch string(text) {
		case "true":
			f.r.Stream = true
		case "false":
		default:
			return formValue(head, "true or false")
		}
	default:
		if string(text) != "false" {
			f.r.Extensions |= ExtensionOf(head.name)
		}
	}
	return nil
}

// formValue refuses the value of a field.
func formValue(head partHead, want string, args ...any) *Error {
	err := formError(head.name, "Invalid value for '%s' in the part at byte %d: expected %s. Correct it or leave it out.", head.name, head.at, fmt.Sprintf(want, args...))
	err.Code = CodeInvalidValue
	return err
}

// complete checks that there is a file.
func (f *form) complete() *Error {
	if f.r.prompt != (span{}) {
		return nil
	}
	err := formError("file", "Missing required part: 'file'. Send the audio as a file.")
	err.Code = CodeMissingParameter
	return err
}

// applyForm returns the form with the model named as e says; nothing else can be
// said in it.
func (r *Request) applyForm(body []byte, e Edit) []byte {
	if e.Model == "" || e.Model == r.Model {
		return body
	}
	before, at, after := "", r.model, ""
	if at == (span{}) {
		before, after = "--"+r.boundary+"\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n", "\r\n"
	}
	out := make([]byte, 0, len(body)+len(before)+len(e.Model)+len(after))
	out = append(append(out, body[:at.start]...), before...)
	out = append(append(out, e.Model...), after...)
	return append(out, body[at.end:]...)
}
