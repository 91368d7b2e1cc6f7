package h2loop

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
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
