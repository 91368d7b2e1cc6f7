package h2loop

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// wire is a client that says what it likes, frame by frame. It reads when it waits for something,
// and not before.
type wire struct {
	t    testing.TB
	conn net.Conn
	*http2.Framer
	block   bytes.Buffer
	encoder *hpack.Encoder

	// What has come.
	streams map[uint32]*answer
	goAway  *http2.GoAwayFrame
	pongs   [][8]byte
	acks    int            // of SETTINGS
	credit  map[uint32]int // more that may be sent, by stream; 0 is the connection
	initial int            // that may be sent on a new stream
}

// answer is what has come on a stream.
type answer struct {
	heads []map[string]string // blocks of headers
	data  []byte
	ended bool
	reset []http2.ErrCode
}

// connect opens a connection; nothing has been sent on it.
func (r *rig) connect() *wire {
	r.t.Helper()
	conn, err := net.Dial("unix", r.address) //nolint:noctx // it is there at once
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(2 * long)); err != nil {
		r.t.Fatal(err)
	}
	w := &wire{t: r.t, conn: conn, Framer: http2.NewFramer(conn, conn), streams: map[uint32]*answer{}, credit: map[uint32]int{}}
	w.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	w.encoder = hpack.NewEncoder(&w.block)
	return w
}

// wire opens a connection, and sends the preface with settings.
func (r *rig) wire(settings ...http2.Setting) *wire {
	r.t.Helper()
	w := r.connect()
	w.write([]byte(http2.ClientPreface))
	w.ok(w.WriteSettings(settings...))
	w.until("settings are acknowledged", func() bool { return w.acks == 1 })
	return w
}

func (w *wire) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *wire) write(b []byte) {
	w.t.Helper()
	_, err := w.conn.Write(b)
	w.ok(err)
}

// headers encodes a block of headers.
func (w *wire) headers(names ...string) []byte {
	w.block.Reset()
	for i := 0; i < len(names); i += 2 {
		w.ok(w.encoder.WriteField(hpack.HeaderField{Name: names[i], Value: names[i+1]}))
	}
	return w.block.Bytes()
}

// call begins a call.
func (w *wire) call(stream uint32, headers ...string) {
	w.t.Helper()
	w.ok(w.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, EndHeaders: true, BlockFragment: w.headers(append([]string{
		":method", "POST", ":scheme", "http", ":path", method, ":authority", "weir", "content-type", "application/grpc",
	}, headers...)...)}))
}

// frame is a message with its prefix.
func frame(message string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

// say sends messages in one DATA frame.
func (w *wire) say(stream uint32, end bool, messages ...string) {
	w.t.Helper()
	var b []byte
	for _, m := range messages {
		b = append(b, frame(m)...)
	}
	w.ok(w.WriteData(stream, end, b))
}

// read reads a frame and keeps what it says.
func (w *wire) read() error {
	f, err := w.ReadFrame()
	if err != nil {
		return err
	}
	id := f.Header().StreamID
	st := w.streams[id]
	if st == nil {
		st = &answer{}
		w.streams[id] = st
	}
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		head := map[string]string{}
		for _, h := range f.Fields {
			head[h.Name] = h.Value
		}
		st.heads = append(st.heads, head)
		st.ended = st.ended || f.StreamEnded()
	case *http2.DataFrame:
		if st.ended {
			w.t.Errorf("stream %d: DATA after its end", id)
		}
		st.data = append(st.data, f.Data()...)
	case *http2.RSTStreamFrame:
		st.reset = append(st.reset, f.ErrCode)
	case *http2.GoAwayFrame:
		w.goAway = f
	case *http2.PingFrame:
		if f.IsAck() {
			w.pongs = append(w.pongs, f.Data)
		}
	case *http2.WindowUpdateFrame:
		w.credit[id] += int(f.Increment)
	case *http2.SettingsFrame:
		if f.IsAck() {
			w.acks++
		} else if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
			w.initial = int(v)
		}
	}
	return nil
}

// until reads until something is so.
func (w *wire) until(what string, so func() bool) {
	w.t.Helper()
	for !so() {
		if err := w.read(); err != nil {
			w.t.Fatalf("it never comes that %s: %v", what, err)
		}
	}
}

// settle reads what comes of all that was sent before. What a client's end leads to may follow the
// answer to a ping that came with it.
func (w *wire) settle() {
	w.t.Helper()
	w.ping()
	w.ping()
}

func (w *wire) ping() {
	w.t.Helper()
	n := len(w.pongs) + 1
	w.ok(w.WritePing(false, [8]byte{7: byte(n)}))
	w.until("a ping is answered", func() bool { return len(w.pongs) == n })
	if got := w.pongs[n-1][7]; got != byte(n) {
		w.t.Errorf("ping %d is answered as %d", n, got)
	}
}

// closed reads until the connection ends, and returns what it was ended for.
func (w *wire) closed() http2.ErrCode {
	w.t.Helper()
	for {
		if err := w.read(); err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				w.t.Fatal("the connection is not closed")
			}
			break
		}
	}
	if w.goAway == nil {
		w.t.Fatal("the connection is closed without a word")
	}
	return w.goAway.ErrCode
}

// stream is what has come on one.
func (w *wire) stream(id uint32) *answer {
	if st := w.streams[id]; st != nil {
		return st
	}
	return &answer{}
}

// done waits for the end of a stream.
func (w *wire) done(id uint32) *answer {
	w.t.Helper()
	w.until(fmt.Sprintf("stream %d ends", id), func() bool { return w.stream(id).ended })
	return w.stream(id)
}

// messages are those in data.
func messages(t *testing.T, data []byte) (list []string) {
	t.Helper()
	for len(data) > 0 {
		if len(data) < prefix || data[0] != 0 || len(data) < prefix+int(binary.BigEndian.Uint32(data[1:])) {
			t.Fatalf("after %d messages: %.20q", len(list), data)
		}
		n := prefix + int(binary.BigEndian.Uint32(data[1:]))
		list = append(list, string(data[prefix:n]))
		data = data[n:]
	}
	return list
}

func TestMessagesAreTheSameHoweverTheyAreSplit(t *testing.T) {
	r := newRig(t, Options{}, echo)
	w := r.wire(http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow})
	w.ok(w.WriteWindowUpdate(0, 1<<30))
	want := []string{"", "a", "", "", "bcd", "ef", ""}
	var whole []byte
	for _, m := range want {
		whole = append(whole, frame(m)...)
	}
	id := uint32(1)
	send := func(cuts ...int) {
		t.Helper()
		w.call(id)
		begin := 0
		for _, end := range cuts {
			w.ok(w.WriteData(id, false, whole[begin:end]))
			begin = end
		}
		w.ok(w.WriteData(id, true, whole[begin:]))
		st := w.done(id)
		if diff := cmp.Diff(want, messages(t, st.data)); diff != "" {
			t.Fatalf("split at %v:\n%s", cuts, diff)
		}
		if got := st.heads[len(st.heads)-1]["grpc-status"]; got != "0" {
			t.Fatalf("split at %v: status %q", cuts, got)
		}
		id += 2
	}
	send()
	for i := range len(whole) + 1 {
		send(i)
		for j := i; j <= len(whole); j++ {
			send(i, j)
		}
	}
	var all []int
	for i := range whole {
		all = append(all, i)
	}
	send(all...)
}

func TestAMessageThatIsWrongIsSoHoweverItIsSplit(t *testing.T) {
	for name, tt := range map[string]struct {
		bytes string
		code  codes.Code
	}{
		"compressed":            {"\x01\x00\x00\x00\x02ab", codes.Unimplemented},
		"compressed, not whole": {"\x01\x00\x00\x00\x02a", codes.Unimplemented},
		"too long":              {"\x00\x7f\xff\xff\xffab", codes.ResourceExhausted},
		"longer than an int32":  {"\x00\xff\xff\xff\xffab", codes.ResourceExhausted},
		"not whole":             {"\x00\x00\x00\x00\x03ab", codes.Internal},
		"a prefix alone":        {"\x00\x00\x00\x00\x03", codes.Internal},
		"half a prefix":         {"\x00\x00\x00", codes.Internal},
	} {
		for cut := range len(tt.bytes) + 1 {
			e := newEvents()
			r := newRig(t, Options{}, func(*Call) Receiver {
				return receiver{
					receive: func(b []byte) error {
						e.add("message %q", b)
						return nil
					},
					end: func(err error) { e.add("end %v", status.Code(err)) },
				}
			})
			w := r.wire()
			w.call(1)
			w.ok(w.WriteData(1, false, append(frame("good"), tt.bytes[:cut]...)))
			w.ok(w.WriteData(1, true, []byte(tt.bytes[cut:])))
			st := w.done(1)
			if got := st.heads[len(st.heads)-1]["grpc-status"]; got != fmt.Sprint(int(tt.code)) {
				t.Errorf("%s, split at %d: status %s, want %d", name, cut, got, tt.code)
			}
			w.settle()
			r.stop()
			if diff := cmp.Diff([]string{`message "good"`, "end " + tt.code.String()}, e.all()); diff != "" {
				t.Errorf("%s, split at %d:\n%s", name, cut, diff)
			}
		}
	}
}

func TestACompressedMessageWithoutBytesIsUnimplementedOrNotWhole(t *testing.T) {
	const bad = "\x01\x00\x00\x00\x00"
	for cut := range len(bad) + 1 {
		e := newEvents()
		r := newRig(t, Options{}, func(*Call) Receiver {
			return receiver{receive: func(b []byte) error {
				e.add("message %q", b)
				return nil
			}}
		})
		w := r.wire()
		w.call(1)
		w.ok(w.WriteData(1, false, []byte(bad[:cut])))
		w.ok(w.WriteData(1, true, []byte(bad[cut:])))
		st := w.done(1)
		if got := st.heads[len(st.heads)-1]["grpc-status"]; got != "12" && got != "13" {
			t.Errorf("split at %d: status %s", cut, got)
		}
		r.stop()
		if got := e.all(); len(got) > 0 {
			t.Errorf("split at %d: %q", cut, got)
		}
	}
}

func TestWhatGoDoesKeepsTheRestOfItsCall(t *testing.T) {
	release := make(chan struct{})
	var once sync.Once
	free := func() { once.Do(func() { close(release) }) }
	e := newEvents()
	r := newRig(t, Options{}, func(c *Call) Receiver {
		name := c.Metadata("name")
		return receiver{
			receive: func(b []byte) error {
				e.add("%s: %s", name, b)
				if string(b) == "wait" {
					c.Go(func() error {
						<-release
						e.add("%s: waited", name)
						return nil
					})
					c.Go(func() error { // it does not hold the goroutine that reads
						<-release
						e.add("%s: waited more", name)
						return nil
					})
				}
				return c.Send(message(b))
			},
			end: func(err error) { e.add("%s: %v", name, err) },
		}
	})
	t.Cleanup(free)
	w := r.wire()
	w.call(1, "name", "one")
	w.say(1, false, "wait", "a", strings.Repeat("b", 10))
	w.say(1, true, "c")
	w.call(3, "name", "other")
	w.say(3, true, "x")
	w.done(3)
	want := []string{"one: wait", "other: x", "other: EOF"}
	if diff := cmp.Diff(want, e.all()); diff != "" {
		t.Errorf("while it waits:\n%s", diff)
	}
	if got := messages(t, w.stream(1).data); !slices.Equal(got, []string{"wait"}) || w.stream(1).ended {
		t.Errorf("while it waits: answers %q, ended %v", got, w.stream(1).ended)
	}
	free()
	w.done(1)
	want = append(want, "one: waited", "one: waited more", "one: a", "one: bbbbbbbbbb", "one: c", "one: EOF")
	if diff := cmp.Diff(want, e.all()); diff != "" {
		t.Errorf("after that:\n%s", diff)
	}
}

func TestWhatGoSendsComesBeforeTheEnd(t *testing.T) {
	r := newRig(t, Options{}, func(c *Call) Receiver {
		return receiver{
			receive: func(b []byte) error {
				m := message(b)
				c.Go(func() error { return c.Send(m) })
				return nil
			},
			end: func(error) { c.Go(func() error { return c.Send(message([]byte("last"))) }) },
		}
	})
	w := r.wire()
	for id := uint32(1); id < 200; id += 2 {
		w.call(id)
		w.say(id, true, "a", "b")
		st := w.done(id)
		if got := messages(t, st.data); !slices.Equal(got, []string{"a", "b", "last"}) {
			t.Fatalf("stream %d: %q", id, got)
		}
		if len(st.reset) > 0 {
			t.Errorf("stream %d: %v, though the client had ended", id, st.reset)
		}
	}
}

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

func TestWindowsHoldAnswersBack(t *testing.T) {
	r := newRig(t, Options{}, echo)
	initial := func(n uint32) http2.Setting { return http2.Setting{ID: http2.SettingInitialWindowSize, Val: n} }
	w := r.wire(initial(0))
	w.call(1)
	text := strings.Repeat("0123456789", 20)
	w.say(1, true, text)
	want := 0
	holds := func(what string, more int) {
		t.Helper()
		w.settle()
		if want += more; len(w.stream(1).data) != want || w.stream(1).ended {
			t.Errorf("%s: %d bytes have come, ended %v; want %d", what, len(w.stream(1).data), w.stream(1).ended, want)
		}
	}
	holds("no window", 0)
	w.ok(w.WriteWindowUpdate(1, 10))
	holds("a window of 10", 10)
	w.ok(w.WriteSettings(initial(50)))
	holds("an initial window that grows to 50", 50)
	w.ok(w.WriteSettings(initial(20)))
	holds("an initial window that shrinks to 20", 0)
	w.ok(w.WriteWindowUpdate(1, 30))
	holds("0 after a deficit", 0)
	w.ok(w.WriteWindowUpdate(1, 5))
	holds("5 more", 5)
	w.ok(w.WriteWindowUpdate(3, 1000))
	w.ok(w.WriteWindowUpdate(0, 1000))
	holds("room elsewhere", 0)
	w.call(3) // with the initial window of now
	w.say(3, true, text)
	w.settle()
	if got := len(w.stream(3).data); got != 20 {
		t.Errorf("on a new stream %d bytes have come, want 20", got)
	}
	w.ok(w.WriteWindowUpdate(1, 1000))
	if got := messages(t, w.done(1).data); !slices.Equal(got, []string{text}) {
		t.Errorf("in the end: %q", got)
	}
	w.ok(w.WriteWindowUpdate(3, 1000))
	if got := messages(t, w.done(3).data); !slices.Equal(got, []string{text}) {
		t.Errorf("in the end, the other: %q", got)
	}
}

func TestTheWindowOfTheConnectionHoldsAnswersBack(t *testing.T) {
	r := newRig(t, Options{}, echo)
	w := r.wire(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	text := strings.Repeat("x", 40_000)
	for _, id := range []uint32{1, 3} {
		w.call(id)
		for rest := frame(text); len(rest) > 0; {
			n := min(len(rest), maxFrame)
			w.ok(w.WriteData(id, n == len(rest), rest[:n]))
			rest = rest[n:]
		}
	}
	came := func() int { return len(w.stream(1).data) + len(w.stream(3).data) }
	w.settle()
	if came() != initialWindow || !w.stream(1).ended || w.stream(3).ended {
		t.Errorf("%d bytes have come, want %d", came(), initialWindow)
	}
	w.ok(w.WriteWindowUpdate(0, 1))
	w.settle()
	if came() != initialWindow+1 {
		t.Errorf("%d bytes have come, want one more", came())
	}
	// A call that nobody waits for any longer takes nothing of it.
	w.ok(w.WriteRSTStream(3, http2.ErrCodeCancel))
	w.ok(w.WriteWindowUpdate(0, 100))
	w.call(5)
	w.say(5, true, "another")
	if got := messages(t, w.done(5).data); !slices.Equal(got, []string{"another"}) {
		t.Errorf("another: %q", got)
	}
	if came() != initialWindow+1 {
		t.Errorf("%d bytes have come of two calls, one of them reset", came())
	}
}

func TestAnErrorWaitsForTheMessagesBeforeIt(t *testing.T) {
	r := newRig(t, Options{}, func(c *Call) Receiver {
		return receiver{receive: func(b []byte) error {
			_ = c.Send(message(b))
			return status.Error(codes.Aborted, "enough")
		}}
	})
	w := r.wire(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 3})
	w.call(1)
	w.say(1, false, "question")
	w.settle()
	if st := w.stream(1); len(st.data) != 3 || st.ended || len(st.reset) > 0 {
		t.Errorf("at first: %+v", st)
	}
	w.ok(w.WriteWindowUpdate(1, 1000))
	st := w.done(1)
	w.settle()
	if got := messages(t, st.data); !slices.Equal(got, []string{"question"}) || st.heads[1]["grpc-status"] != "10" {
		t.Errorf("in the end: %+v", st)
	}
	if diff := cmp.Diff([]http2.ErrCode{http2.ErrCodeNo}, st.reset); diff != "" {
		t.Error(diff)
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

// TestAClientThatBreaksOffRightAfterItsEndHasBrokenOff has both at hand at once.
func TestAClientThatBreaksOffRightAfterItsEndHasBrokenOff(t *testing.T) {
	for name, tt := range map[string]struct {
		last func(f *http2.Framer) error
		end  error
	}{
		"broken off":     {func(f *http2.Framer) error { return f.WriteRSTStream(1, http2.ErrCodeCancel) }, errReset},
		"not broken off": {func(f *http2.Framer) error { return f.WriteRSTStream(3, http2.ErrCodeCancel) }, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEvents()
			r := newRig(t, Options{}, func(c *Call) Receiver {
				return receiver{
					receive: func(b []byte) error {
						e.add("%s", b)
						return nil
					},
					end: func(err error) { e.add("%v, context %v", err, c.Context().Err()) },
				}
			})
			w := r.wire()
			w.call(1)
			w.call(3)
			w.settle()
			var b bytes.Buffer
			once := http2.NewFramer(&b, nil)
			w.ok(once.WriteData(1, true, frame("question")))
			w.ok(tt.last(once))
			w.write(b.Bytes())
			w.settle()
			got := e.all()
			if diff := cmp.Diff("question", got[0]); diff != "" {
				t.Error(diff)
			}
			if want := tt.end.Error() + ", context context canceled"; !slices.Contains(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
			if want := tt.end == io.EOF; w.stream(1).ended != want { //nolint:errorlint // it is that itself
				t.Errorf("answered: %v, want %v", w.stream(1).ended, want)
			}
		})
	}
}

// TestACallThatWasAnsweredHasEnded has a client end and break off at once, as Envoy does: before it
// could have the answer, or after.
func TestACallThatWasAnsweredHasEnded(t *testing.T) {
	for name, want := range map[string]error{"before": errReset, "after": io.EOF} {
		t.Run(name, func(t *testing.T) {
			e := newEvents()
			r := newRig(t, Options{}, func(c *Call) Receiver {
				return receiver{
					receive: func(b []byte) error { return c.Send(message(b)) },
					end:     func(err error) { e.add("%v", err) },
				}
			})
			w := r.wire()
			w.call(1)
			w.settle()
			var b bytes.Buffer
			once := http2.NewFramer(&b, nil)
			w.ok(once.WriteData(1, false, frame("question")))
			if want == io.EOF { //nolint:errorlint // it is that itself
				w.write(b.Bytes())
				w.settle()
				b.Reset()
			}
			w.ok(once.WriteData(1, true, nil))
			w.ok(once.WriteRSTStream(1, http2.ErrCodeCancel))
			w.write(b.Bytes())
			w.settle()
			if diff := cmp.Diff([]string{want.Error()}, e.all()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestARequestThatIsBrokenOffRightAfterItsEndIsNotServed(t *testing.T) {
	e := newEvents()
	r := newRig(t, Options{Plain: func(r *Request) {
		e.add("%s", r.Path)
		r.Reply(204)
	}}, nil)
	w := r.wire()
	var b bytes.Buffer
	once := http2.NewFramer(&b, nil)
	for i, path := range []string{"/broken", "/whole"} {
		id := uint32(2*i + 1) //nolint:gosec // few
		w.ok(w.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: w.headers(
			":method", "POST", ":scheme", "http", ":path", path, ":authority", "weir")}))
		w.ok(once.WriteData(id, true, []byte("body")))
	}
	w.ok(once.WriteRSTStream(1, http2.ErrCodeCancel))
	w.write(b.Bytes())
	w.done(3)
	w.settle()
	if diff := cmp.Diff([]string{"/whole"}, e.all()); diff != "" {
		t.Error(diff)
	}
	if st := w.stream(1); len(st.heads) > 0 {
		t.Errorf("an answer to what was broken off: %+v", st)
	}
}

func TestTrailersOfARequestEndIt(t *testing.T) {
	r := newRig(t, Options{}, echo)
	w := r.wire()
	w.call(1)
	w.say(1, false, "question")
	w.ok(w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: w.headers("a", "b")}))
	st := w.done(1)
	w.settle()
	if got := messages(t, st.data); !slices.Equal(got, []string{"question"}) || st.heads[1]["grpc-status"] != "0" || len(st.reset) > 0 {
		t.Errorf("answer %+v", st)
	}
}

// TestHeadersThatGoOnKeepNobodyWaiting has a call answered while headers of another are on their way.
func TestHeadersThatGoOnKeepNobodyWaiting(t *testing.T) {
	release := make(chan struct{})
	r := newRig(t, Options{}, func(c *Call) Receiver {
		return receiver{receive: func(b []byte) error {
			m := message(b)
			c.Go(func() error {
				<-release
				return c.Send(m)
			})
			return nil
		}}
	})
	w := r.wire()
	w.call(1)
	w.say(1, false, "question")
	w.ping()
	// A ping and half of the headers are at hand at once.
	var b bytes.Buffer
	once := http2.NewFramer(&b, nil)
	w.ok(once.WritePing(false, [8]byte{9}))
	block := w.headers(":method", "POST", ":scheme", "http", ":path", method, ":authority", "weir", "content-type", "application/grpc")
	w.ok(once.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: block[:len(block)/2]}))
	w.write(b.Bytes())
	w.until("the ping is answered", func() bool { return len(w.pongs) == 2 })
	close(release)
	w.until("the other call is answered", func() bool { return len(w.stream(1).data) > 0 })
	w.ok(w.WriteContinuation(3, true, block[len(block)/2:]))
	w.say(3, true, "another")
	if got := messages(t, w.done(3).data); !slices.Equal(got, []string{"another"}) {
		t.Errorf("answer %q", got)
	}
}

// TestWindowsOfTheServerOpen sends more than there is room for at first, and no more than the server
// has made room for.
func TestWindowsOfTheServerOpen(t *testing.T) {
	const size, rounds = 16<<10 - prefix, 1500 // more than 23 MiB
	took := 0
	r := newRig(t, Options{}, func(c *Call) Receiver {
		return receiver{
			receive: func(b []byte) error {
				took += len(b)
				return nil
			},
			end: func(error) { _ = c.Send(message(fmt.Append(nil, took))) },
		}
	})
	w := r.wire()
	w.call(1)
	text := strings.Repeat("x", size)
	sent := 0
	for i := range rounds {
		w.until("there is room for more", func() bool {
			return sent+maxFrame <= w.initial+w.credit[1] && sent+maxFrame <= initialWindow+w.credit[0]
		})
		w.say(1, i == rounds-1, text)
		sent += maxFrame
	}
	if got := messages(t, w.done(1).data); !slices.Equal(got, []string{fmt.Sprint(size * rounds)}) {
		t.Errorf("%q bytes were taken", got)
	}
}

func TestAfterTheServersEndLateDataIsIgnored(t *testing.T) {
	for name, open := range map[string]func(*Call) Receiver{
		"an error": func(*Call) Receiver {
			return receiver{receive: func([]byte) error { return status.Error(codes.Aborted, "enough") }}
		},
		"a panic":   func(*Call) Receiver { panic("ouch") },
		"no method": nil,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{}, open)
			w := r.wire()
			w.call(1)
			w.say(1, false, "question")
			st := w.done(1)
			w.until("the stream is reset", func() bool { return len(st.reset) > 0 })
			late := strings.Repeat("x", 16<<10-prefix)
			before := w.credit[0]
			for range connWindow / 4 / maxFrame {
				w.say(1, false, late)
			}
			w.say(1, true, "last")
			w.ok(w.WriteRSTStream(1, http2.ErrCodeCancel))
			w.settle()
			if diff := cmp.Diff([]http2.ErrCode{http2.ErrCodeNo}, st.reset); diff != "" {
				t.Errorf("resets:\n%s", diff)
			}
			if len(st.heads) != 1 || st.heads[0][":status"] != "200" {
				t.Errorf("headers %v", st.heads)
			}
			if w.credit[0]-before < connWindow/4 {
				t.Errorf("what was ignored takes room: %d came back", w.credit[0]-before)
			}
		})
	}
}

func TestAnswersThatAreNoCallsCarryOnlyHeaders(t *testing.T) {
	long := strings.Repeat("v", 3*maxFrame)
	r := newRig(t, Options{Plain: func(r *Request) { r.Reply(204, Header{"x-long", long}) }}, nil)
	w := r.wire()
	w.ok(w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: w.headers(
		":method", "GET", ":scheme", "http", ":path", "/", ":authority", "weir")}))
	st := w.done(1)
	w.settle()
	want := &answer{heads: []map[string]string{{":status": "204", "x-long": long}}, ended: true}
	if diff := cmp.Diff(want, st, cmp.AllowUnexported(answer{})); diff != "" {
		t.Error(diff)
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

// flood is a call that sends until it cannot.
func flood(e *events) func(*Call) Receiver {
	return func(c *Call) Receiver {
		return receiver{
			receive: func(b []byte) error {
				if string(b) != "flood" {
					return c.Send(message(b))
				}
				m := message(make([]byte, 8<<20))
				sendAll(c, m)
				e.add("sent")
				return nil
			},
			end: func(err error) { e.add("end %v", err) },
		}
	}
}

// sendAll sends a message until that fails.
func sendAll(c *Call, m proto.Message) {
	for more := true; more; {
		more = c.Send(m) == nil
	}
}

// wide is a connection on which the server may send as much as it likes.
func (r *rig) wide() *wire {
	r.t.Helper()
	w := r.wire(http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow})
	w.ok(w.WriteWindowUpdate(0, maxWindow-initialWindow))
	w.settle()
	return w
}

func TestAClientThatTakesNothingIsLeft(t *testing.T) {
	e := newEvents()
	r := newRig(t, Options{}, flood(e), patience(100*time.Millisecond))
	w := r.wide()
	w.call(1)
	w.say(1, false, "flood")
	if diff := cmp.Diff([]string{"sent", "end the connection is gone"}, e.await(t, 2)); diff != "" {
		t.Error(diff)
	}
	eventually(t, "no connection is left", func() bool {
		r.server.mu.Lock()
		defer r.server.mu.Unlock()
		return len(r.server.conns) == 0
	})
}

func TestStopDoesNotWaitForAClientThatTakesNothing(t *testing.T) {
	e := newEvents()
	r := newRig(t, Options{}, flood(e), patience(time.Hour))
	w := r.wide()
	w.call(1)
	w.say(1, false, "flood")
	r.stop()
	if got := e.all(); len(got) > 2 || len(got) > 0 && !slices.Contains(got, "end the connection is gone") {
		t.Errorf("events %q", got)
	}
}
