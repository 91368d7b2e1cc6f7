package h2loop

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// prefix is what stands before a message of gRPC: whether it is compressed, and its
// length in four bytes.
const prefix = 5

// stream is a call or a request: what it is for, is told by which of call and request
// there is. With neither it has been refused.
type stream struct {
	conn    *conn
	id      uint32
	call    *Call
	request *Request

	// Of the goroutine that reads.
	partial  []byte // of a message, or of a request's body
	received int    // bytes that the client does not know to have been taken
	reset    bool   // the client has broken it off
	tasks    tasks

	// Guarded by conn.mu.
	window  int64
	begun   bool   // the head of the answer was sent
	sentIn  int    // conn.writes when something was sent
	pending []byte // could not be sent for want of room
	waits   bool   // it is in conn.waiting
	last    []byte // the frames that end the stream, to follow pending
	closed  bool   // last was sent, or nothing can be sent any more
	heard   bool   // the client has no more to say; the goroutine that reads writes it
}

// open finds out what a stream is for.
func (st *stream) open(f *http2.MetaHeadersFrame) {
	o := &st.conn.server.options
	if !isGRPC(f) {
		st.request = &Request{Path: f.PseudoValue("path"), Method: f.PseudoValue("method"), stream: st}
		return
	}
	method := o.Methods[f.PseudoValue("path")]
	if method == nil {
		st.finish(status.New(codes.Unimplemented, "there is no method "+f.PseudoValue("path")))
		return
	}
	call := &Call{stream: st, fields: f.RegularFields()}
	err := call.guarded(func() error {
		call.receiver = method(call)
		return nil
	})
	if err != nil {
		call.cancel()
		st.finish(status.Convert(err))
		return
	}
	call.fields = nil
	st.call = call
}

func isGRPC(f *http2.MetaHeadersFrame) bool {
	for _, h := range f.RegularFields() {
		if h.Name == "content-type" {
			return strings.HasPrefix(h.Value, "application/grpc")
		}
	}
	return false
}

// data takes what comes of a body.
func (st *stream) data(b []byte) {
	switch {
	case st.request != nil:
		if len(st.partial)+len(b) > st.conn.server.options.MaxMessage {
			st.request.Reply(http.StatusRequestEntityTooLarge)
			st.request = nil
			return
		}
		st.partial = append(st.partial, b...)
	case st.call != nil:
		st.messages(b)
	}
}

// messages takes those that come of a call.
func (st *stream) messages(b []byte) {
	for len(b) > 0 && st.call != nil {
		if len(st.partial) == 0 && len(b) >= prefix { // as a rule it is all there
			n, ok := st.length(b)
			if !ok {
				return
			}
			if end := prefix + n; len(b) >= end {
				st.message(b[prefix:end], false)
				b = b[end:]
				continue
			}
		}
		want := prefix
		if len(st.partial) >= prefix {
			n, ok := st.length(st.partial)
			if !ok {
				return
			}
			want += n
			st.partial = slices.Grow(st.partial, want-len(st.partial))
		}
		n := min(want-len(st.partial), len(b))
		st.partial = append(st.partial, b[:n]...)
		b = b[n:]
		if len(st.partial) == want && (want > prefix || st.empty()) {
			whole := st.partial[prefix:]
			st.partial = nil
			st.message(whole, true)
		}
	}
}

// empty tells whether the message has no bytes whose prefix is in partial, and may have none.
func (st *stream) empty() bool { return [prefix]byte(st.partial) == [prefix]byte{} }

// length reads a message's prefix.
func (st *stream) length(b []byte) (int, bool) {
	n, most := binary.BigEndian.Uint32(b[1:prefix]), st.conn.server.options.MaxMessage
	switch {
	case b[0] != 0:
		st.fail(status.New(codes.Unimplemented, "messages are not to be compressed"))
	case int64(n) > int64(most):
		st.fail(status.Newf(codes.ResourceExhausted, "a message has %d bytes, more than %d", n, most))
	default:
		return int(n), true
	}
	return 0, false
}

// message hands one to the service; owned are bytes that it may keep.
func (st *stream) message(b []byte, owned bool) {
	call := st.call
	if len(b) <= inline && st.tasks.enter() {
		call.receive(b)
		st.tasks.leave(st.conn.server)
		return
	}
	if !owned {
		b = slices.Clone(b)
	}
	st.tasks.add(st.conn.server, func() { call.receive(b) })
}

// inline is the longest message that is answered by the goroutine that reads.
const inline = 64 << 10

// halfClosed is called when the client has no more to say.
func (st *stream) halfClosed() {
	if st.call != nil && len(st.partial) > 0 {
		st.fail(status.New(codes.Internal, "the last message is not whole"))
	}
	if st.request == nil {
		st.end(io.EOF)
		return
	}
	r := st.request
	r.Body, st.partial = st.partial, nil
	r.serve()
}

// end tells the service that no more will come.
func (st *stream) end(err error) {
	call := st.call
	if call == nil {
		return
	}
	call.cancel() // whoever waits for something on its behalf
	st.tasks.after(st.conn.server, func() { call.over(err) })
	// What End has left to Go comes first.
	st.tasks.after(st.conn.server, func() { st.finish(status.New(codes.OK, "")) })
}

// fail ends a call whose client breaks a rule.
func (st *stream) fail(s *status.Status) {
	st.finish(s)
	st.end(s.Err())
	st.call = nil
}

// send sends a message.
func (st *stream) send(m proto.Message) error {
	c := st.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken || st.closed || st.last != nil {
		return errGone
	}
	n := proto.Size(m)
	st.sentIn = c.writes
	if !st.begun {
		st.begun = true
		c.out = appendHeaders(c.out, st.id, 0, answerHead)
	}
	room := int64(prefix + n)
	fits := len(st.pending) == 0 && room <= maxFrame && room <= st.window && room <= c.window
	to, out := &st.pending, st.pending
	if fits {
		to, out = &c.out, appendFrame(c.out, prefix+n, http2.FrameData, 0, st.id)
	}
	end := len(out) + prefix + n
	out = binary.BigEndian.AppendUint32(append(out, 0), uint32(n)) //nolint:gosec // a message is shorter
	out, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(out, m)
	if err == nil && len(out) != end {
		err = errors.New("somebody changes it")
	}
	if err != nil { // nothing has been sent of it, and somebody waits for it
		st.conclude(trailers(status.New(codes.Internal, "an answer cannot be encoded"), true))
		return fmt.Errorf("encode a message: %w", err)
	}
	*to = out // not before it is whole
	if fits {
		st.window -= room
		c.window -= room
	} else if st.pump(); len(st.pending) > 0 && !st.waits {
		st.waits = true
		c.waiting = append(c.waiting, st)
	}
	return c.sent()
}

// pump sends of pending what there is room for, and what is to follow it. conn.mu is held.
func (st *stream) pump() {
	c := st.conn
	for len(st.pending) > 0 {
		n := min(int64(len(st.pending)), maxFrame, st.window, c.window)
		if n <= 0 {
			return
		}
		c.out = appendFrame(c.out, int(n), http2.FrameData, 0, st.id)
		c.out = append(c.out, st.pending[:n]...)
		st.pending = st.pending[n:]
		st.window -= n
		c.window -= n
	}
	st.pending = nil
	if st.last != nil && !st.closed {
		c.out = append(c.out, st.last...)
		st.over()
	}
}

// finish ends the answer to a call, unless it has ended.
func (st *stream) finish(s *status.Status) {
	st.conn.mu.Lock()
	defer st.conn.mu.Unlock()
	st.conclude(trailers(s, st.begun))
}

// conclude ends the answer with a block of headers. conn.mu is held.
func (st *stream) conclude(block string) {
	c := st.conn
	if c.broken || st.closed || st.last != nil {
		return
	}
	st.last = appendHeaders(nil, st.id, http2.FlagHeadersEndStream, block)
	if !st.heard { // and is not to go on (section 8.1)
		st.last = appendFrame(st.last, 4, http2.FrameRSTStream, 0, st.id)
		st.last = binary.BigEndian.AppendUint32(st.last, uint32(http2.ErrCodeNo))
	}
	st.pump()
	_ = c.sent() // the client is gone otherwise, as the goroutine that reads will see
}

// over is called when nothing can be sent any more. conn.mu is held.
func (st *stream) over() {
	st.closed, st.pending, st.last = true, nil, nil
	delete(st.conn.streams, st.id)
}
