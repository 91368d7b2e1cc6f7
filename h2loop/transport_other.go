//go:build !linux

package h2loop

import (
	"net"
	"time"
)

func newTransport(accepted net.Conn, patience time.Duration) (transport, error) {
	return polled{accepted, patience}, nil
}
