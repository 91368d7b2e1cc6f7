package h2loop

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// What the client may send before it hears that there is room for more, in bytes.
	streamWindow = 1 << 20
	connWindow   = 16 << 20

	initialWindow = 1<<16 - 1 // until somebody says otherwise (RFC 9113, section 6.9.2)
	maxWindow     = 1<<31 - 1 // section 6.9.1
	maxFrame      = 16 << 10  // what every peer takes; section 4.2
	maxHeaders    = 64 << 10  // of one call
	headerTable   = 4 << 10   // of HPACK; section 6.5.2

	readBuffer = 64 << 10 // many small frames come at once
	outKept    = 1 << 20  // a longer buffer is not kept

	// writePatience is how long a client may take nothing.
	writePatience = 10 * time.Second
)

var (
	errGone  = errors.New("the connection is gone")
	errReset = errors.New("the client has no use for the answer")
)

// transport is a connection's bytes.
type transport interface {
	io.ReadWriter
	interrupt() // makes Read and Write fail; may be called at any time
	close()     // once, after the last Read and Write
}

// conn is a connection. One goroutine reads its frames and answers what is in them;
// others may send.
type conn struct {
	server    *Server
	transport transport
	in        *bufio.Reader
	framer    *http2.Framer // reads from in, writes to out

	// Of the goroutine that reads.
	newest   uint32 // the newest stream's id
	received int    // bytes that the client does not know to have been taken
	// closing are streams on which the client has no more to say. They are told when no
	// frame is at hand: the next may say that it was to break them off.
	closing []*stream

	mu       sync.Mutex // guards what follows, and the sending half of each stream
	streams  map[uint32]*stream
	out      []byte // is still to be written
	writes   int    // how often out was
	batching bool   // by the goroutine that reads, when it has no frame at hand
	broken   bool   // nothing can be written any more
	window   int64  // what may be sent, on all streams
	initial  int64  // what may be sent on a new one
	waiting  []*stream
}

func newConn(s *Server, t transport) *conn {
	c := &conn{
		server: s, transport: t, in: bufio.NewReaderSize(t, readBuffer), streams: map[uint32]*stream{},
		window: initialWindow, initial: initialWindow,
	}
	c.framer = http2.NewFramer((*outbox)(c), c.in)
	c.framer.SetReuseFrames()
	c.framer.SetMaxReadFrameSize(maxFrame)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(headerTable, nil)
	c.framer.MaxHeaderListSize = maxHeaders
	return c
}

// outbox is where the framer writes to. conn.mu is held. It never fails.
type outbox conn

func (o *outbox) Write(b []byte) (int, error) {
	o.out = append(o.out, b...)
	return len(b), nil
}

// serve reads until the connection ends, and then ends its streams.
func (c *conn) serve() {
	err := c.handshake()
	for err == nil {
		err = c.next()
	}
	c.goAway(err)
	for _, st := range c.left() {
		st.end(errGone)
	}
	c.transport.close()
}

// left takes the streams that have not ended.
func (c *conn) left() map[uint32]*stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = true
	left := c.streams
	c.streams, c.waiting, c.out = nil, nil, nil
	return left
}

// handshake takes the client's preface and says what it may do (section 3.4).
func (c *conn) handshake() error {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c.in, preface); err != nil {
		return fmt.Errorf("read the preface: %w", err)
	}
	if string(preface) != http2.ClientPreface {
		return errors.New("the client does not speak HTTP/2")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.framer.WriteSettings(
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: math.MaxInt32},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: streamWindow},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: maxHeaders},
	)
	_ = c.framer.WriteWindowUpdate(0, connWindow-initialWindow)
	return c.flush()
}

// next reads a frame and does what it says. What came of it is written once no other
// whole frame is at hand.
func (c *conn) next() error {
	frame, err := c.framer.ReadFrame()
	if broken := (http2.StreamError{}); errors.As(err, &broken) {
		c.newest = max(c.newest, broken.StreamID) // more may come on it
		c.reset(broken.StreamID, broken.Code)
	} else if err != nil {
		return err
	}
	c.mu.Lock()
	c.batching = true
	c.mu.Unlock()
	if err := c.take(frame); err != nil {
		return err
	}
	more := c.frameAtHand()
	if !more {
		c.halfClose()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if more && len(c.out) < outKept {
		return nil
	}
	c.batching = false
	return c.flush()
}

// halfClose tells the streams on which the client has no more to say.
func (c *conn) halfClose() {
	for _, st := range c.closing {
		if !st.reset {
			st.halfClosed()
		}
	}
	clear(c.closing)
	c.closing = c.closing[:0]
}

// frameAtHand tells whether a whole frame has been read from the socket. One of headers that go on
// in another does not count.
func (c *conn) frameAtHand() bool {
	const head = 9 // section 4.1
	if c.in.Buffered() < head {
		return false
	}
	b, _ := c.in.Peek(head) // it is there
	if http2.FrameType(b[3]) == http2.FrameHeaders && !http2.Flags(b[4]).Has(http2.FlagHeadersEndHeaders) {
		return false
	}
	return c.in.Buffered()-head >= int(b[0])<<16|int(b[1])<<8|int(b[2])
}

// flush writes what is to be written. mu is held.
func (c *conn) flush() error {
	if c.broken {
		return errGone
	}
	if len(c.out) == 0 {
		return nil
	}
	c.writes++
	_, err := c.transport.Write(c.out)
	if err != nil {
		c.broken = true
		c.transport.interrupt() // the goroutine that reads is to see it
	}
	if c.out = c.out[:0]; cap(c.out) > outKept {
		c.out = nil
	}
	return err
}

// sent flushes, unless the goroutine that reads is about to, and has not got too much for that.
// mu is held.
func (c *conn) sent() error {
	if c.batching && !c.broken && len(c.out) < outKept {
		return nil
	}
	return c.flush()
}

// goAway tells the client which rule it broke, if it did.
func (c *conn) goAway(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if broken := http2.ConnectionError(0); errors.As(err, &broken) {
		_ = c.framer.WriteGoAway(c.newest, http2.ErrCode(broken), nil)
		_ = c.flush() // it ends in any case
	}
}

// take does what a frame says.
func (c *conn) take(frame http2.Frame) error {
	switch f := frame.(type) {
	case *http2.MetaHeadersFrame:
		return c.headers(f)
	case *http2.DataFrame:
		return c.data(f)
	case *http2.RSTStreamFrame:
		c.brokenOff(f.StreamID)
	case *http2.SettingsFrame:
		return c.settings(f)
	case *http2.WindowUpdateFrame:
		return c.windowUpdate(f)
	case *http2.PingFrame:
		if !f.IsAck() {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.framer.WritePing(true, f.Data)
		}
	}
	return nil
}

// settings takes the one setting that matters to who sends so little.
func (c *conn) settings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if size, ok := f.Value(http2.SettingInitialWindowSize); ok {
		if size > maxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		more := int64(size) - c.initial
		c.initial = int64(size)
		for _, st := range c.streams {
			if st.window += more; st.window > maxWindow {
				return http2.ConnectionError(http2.ErrCodeFlowControl)
			}
		}
		c.pump()
	}
	return c.framer.WriteSettingsAck()
}

func (c *conn) windowUpdate(f *http2.WindowUpdateFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	window := &c.window
	if f.StreamID != 0 {
		st := c.streams[f.StreamID]
		if st == nil {
			return nil // it is over
		}
		window = &st.window
	}
	if *window += int64(f.Increment); *window > maxWindow {
		return http2.ConnectionError(http2.ErrCodeFlowControl)
	}
	c.pump()
	return nil
}

// pump sends what waited for room. mu is held.
func (c *conn) pump() {
	still := c.waiting[:0]
	for _, st := range c.waiting {
		if st.pump(); len(st.pending) > 0 {
			still = append(still, st)
		} else {
			st.waits = false
		}
	}
	clear(c.waiting[len(still):])
	c.waiting = still
}

// stream finds one that is not over; nil if there is none.
func (c *conn) stream(id uint32) *stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streams[id]
}

func (c *conn) headers(f *http2.MetaHeadersFrame) error {
	if st := c.stream(f.StreamID); st != nil { // trailers: there is nothing in them for anybody
		switch {
		case st.heard:
			c.reset(st.id, http2.ErrCodeStreamClosed)
		case f.StreamEnded():
			c.ends(st)
		}
		return nil
	}
	if f.StreamID%2 == 0 {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	if f.StreamID <= c.newest { // over, and the client does not know yet
		return nil
	}
	c.newest = f.StreamID
	st := &stream{conn: c, id: f.StreamID}
	c.mu.Lock()
	st.window = c.initial
	c.streams[st.id] = st
	c.mu.Unlock()
	if f.Truncated {
		c.reset(st.id, http2.ErrCodeEnhanceYourCalm)
		return nil
	}
	if f.StreamEnded() {
		c.ends(st)
	}
	st.open(f)
	return nil
}

func (c *conn) data(f *http2.DataFrame) error {
	if f.StreamID > c.newest {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	st := c.stream(f.StreamID)
	c.credit(st, int(f.Length))
	if st == nil {
		return nil // over, and the client does not know yet
	}
	if st.heard {
		c.reset(st.id, http2.ErrCodeStreamClosed)
		return nil
	}
	if f.StreamEnded() {
		c.ends(st)
	}
	st.data(f.Data())
	return nil
}

// ends notes that the client has no more to say on a stream. Its service hears of that later.
func (c *conn) ends(st *stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	st.heard = true
	c.closing = append(c.closing, st)
}

// credit makes room for as much as came. All of it is taken at once, whoever it is for: what
// waits is bounded by what Envoy asks before it has an answer.
func (c *conn) credit(st *stream, n int) {
	c.received += n
	if c.received >= connWindow/4 {
		c.allow(0, c.received)
		c.received = 0
	}
	if st == nil {
		return
	}
	if st.received += n; st.received >= streamWindow/4 {
		c.allow(st.id, st.received)
		st.received = 0
	}
}

func (c *conn) allow(stream uint32, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.framer.WriteWindowUpdate(stream, uint32(n)) //nolint:gosec // less than a window
}

// brokenOff ends a stream that the client has no use for any more. Envoy breaks off every call that
// it ends: one that it has ended before, with all the answers that there were, has ended regularly.
func (c *conn) brokenOff(id uint32) {
	st := c.forget(id)
	if st == nil {
		return
	}
	st.reset = true
	c.mu.Lock()
	regularly := st.heard && st.begun && st.sentIn < c.writes
	c.mu.Unlock()
	if regularly {
		st.end(io.EOF)
	} else {
		st.end(errReset)
	}
}

// reset ends a stream that breaks a rule.
func (c *conn) reset(id uint32, code http2.ErrCode) {
	c.mu.Lock()
	_ = c.framer.WriteRSTStream(id, code)
	c.mu.Unlock()
	if st := c.forget(id); st != nil {
		st.reset = true
		st.end(errReset)
	}
}

// forget takes a stream out, on which nothing can be sent any more; nil if it is over.
func (c *conn) forget(id uint32) *stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.streams[id]
	if st != nil {
		st.over()
	}
	return st
}
