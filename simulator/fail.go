package simulator

import (
	"net"
	"net/http"
	"strconv"
)

// failEarly fails before any header.
func (x *exchange) failEarly() error {
	switch x.script.Fail.Kind {
	case FailHang:
		return x.hang()
	case FailReset:
		return x.cut(true)
	case FailDrop:
		return x.cut(false)
	default:
		return x.failStatus()
	}
}

// failStatus answers the scripted status.
func (x *exchange) failStatus() error {
	status := x.script.Fail.Status
	retry := status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable
	if after := x.script.RetryAfter; retry && after > 0 {
		x.w.Header().Set("Retry-After", strconv.FormatInt(after, 10))
	}
	x.entry.Status = status
	scriptedStatus(status).write(x.w)
	return errScripted
}

// failStream fails in a stream, if the script says so and it has not yet. It
// returns nil if the stream goes on.
func (x *exchange) failStream(out *eventWriter) error {
	switch x.script.Fail.Kind {
	case FailReset:
		return x.cut(true)
	case FailClose:
		return x.cut(false)
	case FailHang:
		return x.hang()
	case FailEnd:
		return errScripted
	case FailError:
		return x.sendError(out)
	case FailGarbage:
		x.script.Fail = Failure{}
		return out.send([]byte(garbageEvent))
	case FailNone, FailStatus, FailDrop, FailType:
	}
	return nil
}

// sendError ends a stream as a dying engine does.
func (x *exchange) sendError(out *eventWriter) error {
	event, after := x.wire.failure()
	if err := out.send(event); err != nil {
		return err
	}
	if !x.script.NoDone && after != nil {
		if err := out.send(after); err != nil {
			return err
		}
	}
	if err := out.close(); err != nil {
		return err
	}
	return errScripted
}

// failPlain fails in place of a plain answer or amid it.
func (x *exchange) failPlain() error {
	switch x.script.Fail.Kind {
	case FailError:
		x.entry.Status = http.StatusInternalServerError
		scriptedStatus(http.StatusInternalServerError).write(x.w)
		return errScripted
	case FailGarbage:
		return x.sendGarbage()
	case FailEnd:
		if err := x.sendHalf(false); err != nil {
			return err
		}
		return errScripted
	default:
		if err := x.sendHalf(true); err != nil {
			return err
		}
		return x.failStream(nil) // reset, close and hang are the same there
	}
}

func (x *exchange) sendGarbage() error {
	x.entry.Status = http.StatusOK
	x.w.Header().Set("Content-Type", "application/json")
	if _, err := x.w.Write([]byte("<html><body>this is not JSON</body></html>\n")); err != nil {
		return err
	}
	return errScripted
}

// hang does nothing until the client leaves.
func (x *exchange) hang() error {
	<-x.r.Context().Done()
	return x.r.Context().Err()
}

// cut ends the connection under the answer: by a reset, or by a FIN.
func (x *exchange) cut(reset bool) error {
	conn, _, err := x.rc.Hijack()
	if err != nil {
		x.abort = true
		return errScripted
	}
	if tcp, ok := underlying(conn).(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0) // fails only on a connection that is gone
	}
	_ = conn.Close()
	return errScripted
}

// underlying is the connection below TLS.
func underlying(conn net.Conn) net.Conn {
	if wrapped, ok := conn.(interface{ NetConn() net.Conn }); ok {
		return wrapped.NetConn()
	}
	return conn
}
