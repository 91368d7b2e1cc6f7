package h2loop

import (
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
)

func TestPingsAndSettingsAreAcknowledged(t *testing.T) {
	r := newRig(t, Options{}, echo)
	w := r.wire(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 20}, http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	if w.initial != streamWindow || w.credit[0] != connWindow-initialWindow {
		t.Errorf("room for %d and %d more", w.initial, w.credit[0])
	}
	for i := range 3 {
		w.ping()
		w.ok(w.WriteSettings())
		w.until("settings are acknowledged", func() bool { return w.acks == i+2 })
	}
	// What is said to have been done is not answered.
	w.ok(w.WriteSettingsAck())
	w.ok(w.WritePing(true, [8]byte{1}))
	w.ping()
	if w.acks != 4 || len(w.pongs) != 4 {
		t.Errorf("%d acknowledgments, %d pings answered", w.acks, len(w.pongs))
	}
}

func TestRulesWhoseBreachEndsTheConnection(t *testing.T) {
	rest := func(w *wire, kind http2.FrameType, flags http2.Flags, stream uint32, payload []byte) {
		w.ok(w.WriteRawFrame(kind, flags, stream, payload))
	}
	for name, tt := range map[string]struct {
		do   func(w *wire)
		code http2.ErrCode
	}{
		"DATA on an idle stream":         {func(w *wire) { w.say(3, false, "x") }, http2.ErrCodeProtocol},
		"DATA on no stream":              {func(w *wire) { rest(w, http2.FrameData, 0, 0, []byte("x")) }, http2.ErrCodeProtocol},
		"an even stream":                 {func(w *wire) { w.call(4) }, http2.ErrCodeProtocol},
		"an even stream that is not new": {func(w *wire) { w.call(5); w.call(2) }, http2.ErrCodeProtocol},
		"a stream's window":              {func(w *wire) { w.ok(w.WriteWindowUpdate(1, maxWindow)) }, http2.ErrCodeFlowControl},
		"the connection's window":        {func(w *wire) { w.ok(w.WriteWindowUpdate(0, maxWindow)) }, http2.ErrCodeFlowControl},
		"an update of a window by 0":     {func(w *wire) { rest(w, http2.FrameWindowUpdate, 0, 0, make([]byte, 4)) }, http2.ErrCodeProtocol},
		"an initial window":              {func(w *wire) { w.ok(w.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31})) }, http2.ErrCodeFlowControl},
		"a stream's window, by a setting": {func(w *wire) {
			w.ok(w.WriteWindowUpdate(1, 1))
			w.ok(w.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow}))
		}, http2.ErrCodeFlowControl},
		"headers that do not go on": {func(w *wire) {
			w.ok(w.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: w.headers(":method", "POST")}))
			w.ok(w.WritePing(false, [8]byte{}))
		}, http2.ErrCodeProtocol},
		"headers that are none": {func(w *wire) {
			w.ok(w.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, EndHeaders: true, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff}}))
		}, http2.ErrCodeCompression},
		"a PING that is too short": {func(w *wire) { rest(w, http2.FramePing, 0, 0, []byte("x")) }, http2.ErrCodeFrameSize},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEvents()
			r := newRig(t, Options{}, func(*Call) Receiver {
				return receiver{end: func(err error) { e.add("%v", err) }}
			})
			w := r.wire()
			w.call(1)
			w.settle()
			tt.do(w)
			if got := w.closed(); got != tt.code {
				t.Errorf("it ends with %v, want %v", got, tt.code)
			}
			r.stop()
			for _, line := range e.all() {
				if line != errGone.Error() {
					t.Errorf("a call ends with %v", line)
				}
			}
			if len(e.all()) == 0 {
				t.Error("the call does not end")
			}
		})
	}
}

func TestRulesWhoseBreachEndsTheStream(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(w *wire)
		code http2.ErrCode
	}{
		"headers beyond the limit": {func(w *wire) {
			block := w.headers(":method", "POST", ":scheme", "http", ":path", method, ":authority", "weir", "content-type", "application/grpc",
				"a", strings.Repeat("~", 12<<10), "b", strings.Repeat("~", 12<<10), "c", strings.Repeat("~", 12<<10), "d", strings.Repeat("~", 12<<10),
				"e", strings.Repeat("~", 12<<10), "f", strings.Repeat("~", 12<<10))
			w.ok(w.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: block[:maxFrame]}))
			for block = block[maxFrame:]; len(block) > maxFrame; block = block[maxFrame:] {
				w.ok(w.WriteContinuation(3, false, block[:maxFrame]))
			}
			w.ok(w.WriteContinuation(3, true, block))
		}, http2.ErrCodeEnhanceYourCalm},
		"headers without a method": {func(w *wire) {
			w.ok(w.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, EndHeaders: true, BlockFragment: w.headers(":path", "/", "A", "upper case")}))
		}, http2.ErrCodeProtocol},
		"an update of its window by 0": {func(w *wire) {
			w.call(3)
			w.ok(w.WriteRawFrame(http2.FrameWindowUpdate, 0, 3, make([]byte, 4)))
		}, http2.ErrCodeProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{}, echo)
			w := r.wire()
			w.call(1)
			tt.do(w)
			// The client did not know yet.
			w.say(3, false, "late")
			w.say(3, true, "later")
			w.say(1, true, "another")
			if got := messages(t, w.done(1).data); !slices.Equal(got, []string{"another"}) {
				t.Errorf("another call: %q", got)
			}
			w.call(5)
			w.say(5, true, "a new one")
			if got := messages(t, w.done(5).data); !slices.Equal(got, []string{"a new one"}) {
				t.Errorf("a new call: %q", got)
			}
			if st := w.stream(3); len(st.data) > 0 || len(st.heads) > 0 || !slices.Equal(st.reset, []http2.ErrCode{tt.code}) {
				t.Errorf("stream 3: %+v", st)
			}
		})
	}
}

func TestWhatComesAfterTheClientsEndResetsTheStream(t *testing.T) {
	for name, do := range map[string]func(w *wire){
		"DATA":    func(w *wire) { w.say(1, true, "more") },
		"HEADERS": func(w *wire) { w.call(1) },
		"trailers": func(w *wire) {
			w.ok(w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: w.headers("a", "b")}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			e := newEvents()
			r := newRig(t, Options{Plain: func(r *Request) {
				e.add("request %q", r.Body)
				r.Go(func() { <-release })
			}}, nil)
			w := r.wire()
			w.ok(w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: w.headers(
				":method", "POST", ":scheme", "http", ":path", "/", ":authority", "weir")}))
			w.ok(w.WriteData(1, true, []byte("body")))
			w.settle()
			do(w)
			w.settle()
			close(release)
			r.stop()
			if diff := cmp.Diff([]string{`request "body"`}, e.all()); diff != "" {
				t.Error(diff)
			}
			if got := w.stream(1).reset; !slices.Equal(got, []http2.ErrCode{http2.ErrCodeStreamClosed}) {
				t.Errorf("reset %v", got)
			}
		})
	}
}

func TestAWrongPrefaceClosesTheConnection(t *testing.T) {
	r := newRig(t, Options{}, echo)
	for _, preface := range []string{"GET / HTTP/1.1\r\nHost: weir\r\n\r\n", http2.ClientPreface[:23] + "\r", "PRI"} {
		w := r.connect()
		w.write([]byte(preface))
		if len(preface) < len(http2.ClientPreface) {
			w.ok(w.conn.(*net.UnixConn).CloseWrite())
		}
		b, err := io.ReadAll(w.conn)
		if len(b) > 0 {
			t.Errorf("%q is answered: %q", preface, b)
		}
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("%q does not close the connection", preface)
		}
	}
	eventually(t, "no connection is left", func() bool {
		r.server.mu.Lock()
		defer r.server.mu.Unlock()
		return len(r.server.conns) == 0
	})
}
