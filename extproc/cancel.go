package extproc

import (
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/weir-gateway/weir/openai"
)

// lastWord is how long the next chunk of a cancelled answer is waited for, with which
// the client can be told why. Without one it is only broken off.
const lastWord = 200 * time.Millisecond

// cut is an exchange that an operator has cancelled. An immediate response ends it,
// whether weir was asked or not: before the answer it is the answer, and after its
// beginning Envoy breaks the answer off, which no client takes for success.
type cut struct {
	stream *stream
	why    *openai.Error
	timer  *time.Timer
	said   bool // nothing is to follow, guarded by stream.mu
}

// cancel cuts the exchange short.
func (s *stream) cancel(why *openai.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.cut != nil || s.watch != nil && s.watch.expired {
		return
	}
	s.cut = &cut{stream: s, why: why}
	switch {
	case s.native: // the exchange is its script's now
		s.cut.end()
	case !s.answers:
		s.exchange.Cancelled(why)
		s.cut.end()
	case s.watch != nil: // weir may speak without being asked
		s.watch.stop()
		if last := s.exchange.Cancelled(why); last != nil && s.rpc.Send(passOn(last, false)) != nil {
			return // Envoy is gone
		}
		s.cut.end()
	default:
		s.cut.timer = time.AfterFunc(lastWord, s.cut.silent)
	}
}

// end breaks off. stream.mu is held.
func (c *cut) end() {
	if c.said || c.stream.over {
		return
	}
	c.said = true
	_ = c.stream.rpc.Send(immediate(c.why)) // if Envoy is gone the stream ends by itself
}

// silent is called when no chunk has come.
func (c *cut) silent() {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	if c.said || c.stream.over {
		return
	}
	c.stream.exchange.Cancelled(c.why)
	c.end()
}

// instead answers a chunk of a cancelled answer: with it, what the client is to know.
// stream.mu is held.
func (c *cut) instead(in *extprocv3.HttpBody) {
	s := c.stream
	if c.timer != nil {
		c.timer.Stop()
	}
	out, _ := s.exchange.Write(in.GetBody(), in.GetEndOfStream())
	if in.GetEndOfStream() { // it has come to its end after all
		c.said = true
		_ = s.rpc.Send(replaceBody(out))
		return
	}
	all := append(append([]byte(nil), out...), s.exchange.Cancelled(c.why)...)
	if s.rpc.Send(replaceBody(all)) == nil {
		c.end()
	}
}

// spoken tells whether nothing is to follow. A nil cut has said nothing.
func (c *cut) spoken() bool { return c != nil && c.said }
