package openai

import (
	"bytes"
	"mime"
	"strings"
)

// partHead is what the headers of a part say of it.
type partHead struct {
	at   int // where they begin
	name string
	file bool // it has a filename
	text bool // its type, if it has one, is plain text in UTF-8
}

// partHead reads the headers of a part, and the empty line after them.
func (f *form) partHead() (head partHead, err *Error) {
	head = partHead{at: f.i, text: true}
	named := false
	for {
		n := bytes.Index(f.b[f.i:min(len(f.b), head.at+maxPartHeader)], crlf)
		if n < 0 {
			return head, formError("", "The headers of the part at byte %d do not end, or are longer than %d bytes. End each with CRLF, and all of them with an empty line.", head.at, maxPartHeader)
		}
		line := f.b[f.i : f.i+n]
		f.i += n + len(crlf)
		if n == 0 {
			break
		}
		disposition, err := head.line(line)
		if err != nil {
			return head, err
		}
		if disposition && named {
			return head, formError("", "The part at byte %d has two Content-Dispositions. Send one.", head.at)
		}
		named = named || disposition
	}
	if !named {
		return head, formError("", "The part at byte %d has no name. Send it with \"Content-Disposition: form-data; name=…\".", head.at)
	}
	return head, nil
}

// line reads a header of the part, and tells whether it is the Content-Disposition.
func (h *partHead) line(line []byte) (disposition bool, err *Error) {
	name, value, ok := bytes.Cut(line, []byte(":"))
	for _, c := range name {
		ok = ok && (isAlphanumeric(c) || c == '-')
	}
	if !ok || len(name) == 0 || bytes.ContainsAny(value, "\r\n\x00") {
		return false, formError("", "A header of the part at byte %d is malformed. Send \"Name: value\" on one line.", h.at)
	}
	value = bytes.Trim(value, " \t")
	switch {
	case bytes.EqualFold(name, []byte("content-disposition")):
		return true, h.disposition(string(value))
	case bytes.EqualFold(name, []byte("content-type")):
		media, params, bad := mime.ParseMediaType(string(value))
		charset := strings.ToLower(params["charset"])
		h.text = h.text && bad == nil && media == "text/plain" && (charset == "" || charset == "utf-8" || charset == "us-ascii")
	case bytes.EqualFold(name, []byte("content-transfer-encoding")):
		switch strings.ToLower(string(value)) {
		case "binary", "8bit", "7bit":
		default:
			return false, formError("", "The part at byte %d has a Content-Transfer-Encoding. Send it as it is.", h.at)
		}
	}
	return false, nil
}

// disposition reads "form-data; name="…"; filename="…"". A quoted text ends at the
// next quote: what has one in it, escaped in one way or another, is refused, as
// readers differ about it.
func (h *partHead) disposition(s string) *Error {
	malformed := formError("", "The Content-Disposition of the part at byte %d is malformed. Send \"form-data; name=\"…\"\", with filename if it is a file, and no escapes.", h.at)
	kind, rest, _ := strings.Cut(s, ";")
	if !strings.EqualFold(strings.Trim(kind, " \t"), "form-data") {
		return malformed
	}
	seen := map[string]bool{}
	for rest = strings.Trim(rest, " \t"); rest != ""; {
		var name, value string
		var ok bool
		if name, value, rest, ok = dispositionParam(rest); !ok || seen[name] {
			return malformed
		}
		seen[name] = true
		switch name {
		case "name":
			h.name = value
		case "filename", "filename*":
			h.file = true
		default:
			return malformed
		}
	}
	if h.name == "" || strings.ContainsAny(h.name, "\\%") {
		return malformed
	}
	return nil
}

// dispositionParam reads one parameter, and what separates it from the next.
func dispositionParam(s string) (name, value, rest string, ok bool) {
	name, rest, ok = strings.Cut(s, "=")
	if !ok {
		return "", "", "", false
	}
	name = strings.ToLower(name)
	if quoted, is := strings.CutPrefix(rest, `"`); is {
		value, rest, ok = strings.Cut(quoted, `"`)
		ok = ok && !strings.HasSuffix(value, `\`)
	} else {
		end := strings.IndexAny(rest, "; \t")
		if end < 0 {
			end = len(rest)
		}
		value, rest = rest[:end], rest[end:]
		ok = value != "" && !strings.ContainsAny(value, `"\`)
	}
	rest = strings.TrimLeft(rest, " \t")
	if rest == "" {
		return name, value, "", ok
	}
	rest, more := strings.CutPrefix(rest, ";")
	rest = strings.TrimLeft(rest, " \t")
	return name, value, rest, ok && more && rest != ""
}
