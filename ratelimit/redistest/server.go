// Package redistest starts real Redis servers for tests: one, one that Sentinels
// watch over, or a Cluster. All of them are gone when the test binary is.
//
// The program is $REDIS_SERVER, or redis-server on PATH. Where there is none,
// tests that need it are skipped.
package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// patience is how long a server may take to start.
const patience = 20 * time.Second

// Server is one redis-server, which listens on a TCP port and on a socket.
type Server struct {
	Addr   string // of the TCP port, 127.0.0.1:…
	Socket string // path
	Client *redis.Client

	dir    string
	args   []string
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process is gone
}

// Binary is the path of redis-server, or "" where there is none.
func Binary() string {
	if path := os.Getenv("REDIS_SERVER"); path != "" {
		return path
	}
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return ""
	}
	return path
}

// Need skips a test where there is no redis-server.
func Need(tb testing.TB) {
	tb.Helper()
	if Binary() == "" {
		if os.Getenv("CI") == "true" {
			tb.Fatal("no redis-server: make redis installs it")
		}
		tb.Skip("SKIPPED: no redis-server: set REDIS_SERVER to its path, or put it on PATH")
	}
}

// Start starts a server for one test, with further arguments.
func Start(tb testing.TB, args ...string) *Server {
	tb.Helper()
	Need(tb)
	s, err := Launch(args...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

// Launch starts a server for more than one test; Close ends it.
func Launch(args ...string) (*Server, error) {
	return launch(nil, append([]string{"--save", "", "--appendonly", "no"}, args...))
}

// launch starts a server with arguments before and after those that say where it
// listens.
func launch(before, after []string) (*Server, error) {
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &Server{Addr: net.JoinHostPort("127.0.0.1", port), Socket: filepath.Join(dir, "redis.sock"), dir: dir}
	s.args = slices.Concat(before, []string{
		"--port", port, "--bind", "127.0.0.1", "--unixsocket", s.Socket, "--dir", dir, "--logfile", "log",
	}, after)
	s.Client = redis.NewClient(&redis.Options{
		Network: "unix", Addr: s.Socket, DisableIdentity: true, Protocol: 2,
		MaxRetries: -1, PipelinePoolSize: -1, DialerRetries: 1,
	})
	if err := s.Up(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// URL is where the server listens, at the socket, as redisstore takes it.
func (s *Server) URL() string { return "unix://" + s.Socket }

// TCP is where it listens at the port.
func (s *Server) TCP() string { return "redis://" + s.Addr }

// Up starts the process, and waits until it answers. It remembers nothing of an
// earlier life.
func (s *Server) Up() error {
	s.cmd = exec.Command(Binary(), s.args...)
	s.cmd.SysProcAttr = dieWithParent()
	s.exited = make(chan struct{})
	started := make(chan error)
	go func() {
		// The signal at the parent's death is sent at that of this thread.
		runtime.LockOSThread()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			_ = s.cmd.Wait() // how it ends is for the tests to say
		}
		close(s.exited)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", Binary(), err)
	}
	return s.await(func(ctx context.Context) bool {
		err := s.Client.Ping(ctx).Err()
		return err == nil || redis.HasErrorPrefix(err, "NOAUTH") // it is up, and wants a password
	})
}

// await waits until the server is as it is wanted.
func (s *Server) await(ready func(ctx context.Context) bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for !ready(ctx) {
		select {
		case <-ctx.Done():
		case <-s.exited:
		case <-time.After(5 * time.Millisecond):
			continue
		}
		log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
		return fmt.Errorf("redis-server %s did not come up in %s:\n%s", s.Addr, patience, log)
	}
	return nil
}

// Kill ends the process at once, with SIGKILL.
func (s *Server) Kill() {
	s.signal(syscall.SIGKILL)
	<-s.exited
}

// Restart kills the server and starts it again, empty.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	s.Kill()
	if err := s.Up(); err != nil {
		tb.Fatal(err)
	}
}

// Stop halts the process, with SIGSTOP: connections stay, nothing is answered.
func (s *Server) Stop() { s.signal(syscall.SIGSTOP) }

// Continue ends Stop.
func (s *Server) Continue() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) { _ = s.cmd.Process.Signal(sig) }

// Flush empties the server.
func (s *Server) Flush(tb testing.TB) {
	tb.Helper()
	s.Do(tb, "flushall")
}

// Do runs a command that must succeed.
func (s *Server) Do(tb testing.TB, args ...any) any {
	tb.Helper()
	reply, err := s.Client.Do(context.Background(), args...).Result()
	if err != nil {
		tb.Fatalf("redis: %v: %v", args, err)
	}
	return reply
}

// Close ends the process and removes its files.
func (s *Server) Close() {
	if s.cmd != nil {
		s.Kill()
	}
	_ = s.Client.Close()
	_ = os.RemoveAll(s.dir)
}

// freePort answers a port that nobody listens on at the moment.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port), nil
}
