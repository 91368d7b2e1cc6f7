package h2loop

import (
	"net/http"
	"strconv"
)

// Request is one that is not gRPC's, with all of its body.
type Request struct {
	Method string
	Path   string // with its query
	Body   []byte
	stream *stream
}

// Header is one of an answer. Its name is lower-case.
type Header struct{ Name, Value string }

// Reply answers, without a body. The first answer counts.
func (r *Request) Reply(status int, headers ...Header) {
	block := appendLiteral(nil, ":status", strconv.Itoa(status))
	for _, h := range headers {
		block = appendLiteral(block, h.Name, h.Value)
	}
	r.stream.conn.mu.Lock()
	defer r.stream.conn.mu.Unlock()
	r.stream.conclude(string(block))
}

// Go has a goroutine of its own do what takes long, or waits.
func (r *Request) Go(f func()) {
	r.stream.tasks.do(r.stream.conn.server, func() { r.guarded(f) })
}

func (r *Request) serve() {
	plain := r.stream.conn.server.options.Plain
	if plain == nil {
		r.Reply(http.StatusNotFound)
		return
	}
	r.stream.tasks.after(r.stream.conn.server, func() { r.guarded(func() { plain(r) }) })
}

// guarded does something for the service.
func (r *Request) guarded(f func()) {
	defer func() {
		if p := recover(); p != nil {
			r.stream.conn.server.options.Panicked(p)
			r.Reply(http.StatusInternalServerError)
		}
	}()
	f()
}
