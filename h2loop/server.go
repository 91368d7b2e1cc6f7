package h2loop

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Options say what is served.
type Options struct {
	// Methods of gRPC, by their paths: /package.Service/Method. A method is told of
	// each call, and returns what takes its messages.
	Methods map[string]func(*Call) Receiver
	// Plain answers requests that are not gRPC's. With none they are answered 404.
	Plain func(*Request)
	// MaxMessage is the longest message or body that is taken, in bytes.
	MaxMessage int
	// Panicked is told of a panic in a service, by the goroutine that met it. The call
	// ends with an error, others are not touched.
	Panicked func(recovered any)
	// Failed is told when a connection cannot be taken, as when there are too many open
	// files. The server tries again.
	Failed func(error)
}

// Server serves connections, each with a goroutine that reads it.
type Server struct {
	options  Options
	running  sync.WaitGroup // connections, and what [Call.Go] began
	patience time.Duration  // how long a client may take nothing

	mu        sync.Mutex
	conns     map[*conn]struct{}
	listeners []net.Listener
	stopped   bool
}

// New returns a server.
func New(o Options) *Server {
	if o.Panicked == nil {
		o.Panicked = func(any) {}
	}
	if o.Failed == nil {
		o.Failed = func(error) {}
	}
	return &Server{options: o, patience: writePatience, conns: map[*conn]struct{}{}}
}

// Serve takes connections until Stop closes the listener; then it returns nil.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return l.Close()
	}
	s.listeners = append(s.listeners, l)
	s.mu.Unlock()
	for {
		accepted, err := l.Accept()
		if err == nil {
			err = s.take(accepted)
		}
		switch {
		case err == nil:
		case s.hasStopped():
			return nil
		case errors.Is(err, net.ErrClosed): // by somebody else
			return fmt.Errorf("take a connection: %w", err)
		default:
			s.options.Failed(err)
			time.Sleep(again)
		}
	}
}

// again is how long a connection that could not be taken is waited for.
const again = 100 * time.Millisecond

func (s *Server) hasStopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

// take serves a connection from now on.
func (s *Server) take(accepted net.Conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return accepted.Close()
	}
	t, err := newTransport(accepted, s.patience)
	if err != nil {
		return errors.Join(err, accepted.Close())
	}
	c := newConn(s, t)
	s.conns[c] = struct{}{}
	s.running.Go(func() {
		c.serve()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, c)
	})
	return nil
}

// Stop closes listeners and connections, and returns when every call has been told of
// its end.
func (s *Server) Stop() {
	s.mu.Lock()
	s.stopped = true
	for _, l := range s.listeners {
		_ = l.Close() // nobody waits for it
	}
	for c := range s.conns {
		c.transport.interrupt()
	}
	s.mu.Unlock()
	s.running.Wait()
}
