package main

import (
	"net"

	"github.com/rs/zerolog"
)

// States that systemd is told of, see sd_notify(3).
const (
	notifyReady    = "READY=1"
	notifyStopping = "STOPPING=1"
)

// notify tells a state to the service manager that started weir, if it wants to know.
func notify(e *env, state string, log zerolog.Logger) {
	socket, ok := e.getenv("NOTIFY_SOCKET")
	if !ok || socket == "" {
		return
	}
	c, err := net.Dial("unixgram", socket) // "@…" is in the abstract namespace for Go too
	if err == nil {
		_, err = c.Write([]byte(state))
		_ = c.Close()
	}
	if err != nil {
		log.Warn().Err(err).Str("state", state).Msg("the service manager could not be told")
	}
}
