package h2loop

import (
	"net"
	"time"
)

// polled is a connection that Go's poller waits for.
type polled struct {
	net.Conn
	patience time.Duration // how long the client may take nothing
}

func (p polled) Write(b []byte) (int, error) {
	if err := p.SetWriteDeadline(time.Now().Add(p.patience)); err != nil {
		return 0, err
	}
	return p.Conn.Write(b)
}

func (p polled) interrupt() { _ = p.Close() }
func (p polled) close()     { _ = p.Close() }
