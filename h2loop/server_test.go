package h2loop

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/net/http2"
)

func TestServeAfterStopReturnsAtOnce(t *testing.T) {
	s := New(Options{})
	s.Stop()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l); err != nil {
		t.Errorf("Serve returns %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is open: %v", err)
	}
}

func TestServeTellsWhyItEnds(t *testing.T) {
	s := New(Options{})
	defer s.Stop()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve returns %v", err)
	}
}

// stubborn is a listener that fails before it takes a connection.
type stubborn struct {
	net.Listener
	fails atomic.Int32
}

func (s *stubborn) Accept() (net.Conn, error) {
	if s.fails.Add(-1) >= 0 {
		return nil, syscall.EMFILE
	}
	return s.Listener.Accept()
}

func TestTooManyOpenFilesPass(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	var told atomic.Int32
	s := New(Options{MaxMessage: 1, Failed: func(err error) {
		if errors.Is(err, syscall.EMFILE) {
			told.Add(1)
		}
	}})
	failing := &stubborn{Listener: l}
	failing.fails.Store(2)
	done := make(chan error, 1)
	go func() { done <- s.Serve(failing) }()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 9)); err != nil { // the server's SETTINGS
		t.Errorf("no answer after two failures: %v", err)
	}
	s.Stop()
	if err := <-done; err != nil || told.Load() != 2 {
		t.Errorf("served: %v, told of %d failures, want 2", err, told.Load())
	}
}
