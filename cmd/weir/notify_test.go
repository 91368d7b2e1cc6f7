package main

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"
)

func TestNotify(t *testing.T) {
	file := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: file, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e := &env{getenv: func(name string) (string, bool) { return file, name == "NOTIFY_SOCKET" }}
	notify(e, notifyReady, zerolog.Nop())
	text := make([]byte, 100)
	n, err := l.Read(text)
	if err != nil || string(text[:n]) != "READY=1" {
		t.Errorf("%q, error %v", text[:n], err)
	}
}
