package extproc

import (
	"net/http"
	"time"

	"github.com/weir-gateway/weir/openai"
)

// watch ends a streamed answer whose upstream falls silent, or takes too long: with
// an error that the client can read, and then the end of the connection, which no
// client takes for success.
type watch struct {
	stream  *stream
	idle    time.Duration
	total   time.Duration // 0 is without end
	timer   *time.Timer
	spoke   time.Time // when the upstream did last, guarded by stream.mu
	expired bool      // guarded by stream.mu
}

// newWatch begins the watch over the answer of a stream, which is locked.
func newWatch(s *stream) *watch {
	t := s.exchange.Timeouts()
	w := &watch{stream: s, idle: t.Idle, total: t.Total, spoke: time.Now()}
	left, _ := w.left(w.spoke)
	w.timer = time.AfterFunc(left, w.look)
	return w
}

// left is how long the upstream still has, and the timeout that ends it.
func (w *watch) left(now time.Time) (left, limit time.Duration) {
	left, limit = w.idle-now.Sub(w.spoke), w.idle
	if w.total > 0 {
		if whole := w.total - now.Sub(w.stream.call.Start); whole < left {
			return whole, w.total
		}
	}
	return left, limit
}

func (w *watch) stop() {
	w.expired = true
	w.timer.Stop()
}

// look is called when the upstream may have been silent for too long.
func (w *watch) look() {
	s := w.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { // nobody else is there to catch it
		if p := recover(); p != nil {
			w.expired = true
			logPanic(s.log, p, s.call.RequestID)
		}
	}()
	if w.expired {
		return
	}
	left, limit := w.left(time.Now())
	if left > 0 {
		w.timer.Reset(left)
		return
	}
	last := s.exchange.Expire(limit)
	if last == nil {
		return // it has ended; Envoy knows when it will close
	}
	w.expired = true
	// If Envoy is gone the stream ends by itself.
	if s.rpc.Send(passOn(last, false)) == nil {
		_ = s.rpc.Send(immediate(&openai.Error{Status: http.StatusGatewayTimeout, Type: openai.TypeServer, Code: openai.CodeUpstreamTimeout}))
	}
}
