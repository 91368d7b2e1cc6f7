// Package site starts a real weir with a real Envoy, as tests and benchmarks
// need it: built from this module, on free ports, with files of its own, ended
// with its starter.
package site

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startTime = 30 * time.Second
	stopTime  = 40 * time.Second
)

// Build compiles cmd/weir into dir and returns the binary's path. Flags, such as
// -race, go to the compiler.
func Build(ctx context.Context, dir string, flags ...string) (string, error) {
	binary := filepath.Join(dir, "weir")
	args := append([]string{"build", "-o", binary}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, "github.com/weir-gateway/weir/cmd/weir")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build weir: %w\n%s", err, out)
	}
	return binary, nil
}

// Site is a running weir up.
type Site struct {
	URL     string // of Envoy's public listener, without path
	Metrics string // URL of weir's metrics; "" when not served
	Admin   string // URL of the admin API; "" when not served
	Dir     string // with weir.yaml, keys.yaml and usage.jsonl

	cmd    *exec.Cmd
	stdout *tail
	stderr *tail
	done   chan struct{}
	err    error // of the process; read after done
}

// Start runs `weir up` with the files of dir, which must hold weir.yaml, and
// waits until it is ready. Env is added to the environment.
func Start(ctx context.Context, binary, dir string, args []string, env ...string) (*Site, error) {
	s := &Site{Dir: dir, stdout: &tail{}, stderr: &tail{}, done: make(chan struct{})}
	s.cmd = exec.Command(binary, append([]string{"up", "--log-format", "json"}, args...)...)
	s.cmd.Dir = dir
	s.cmd.Env = append(os.Environ(), env...)
	s.cmd.Stdout, s.cmd.Stderr = s.stdout, s.stderr
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start weir: %w", err)
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.done)
	}()
	if err := s.awaitReady(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

var (
	urlLine     = regexp.MustCompile(`(?m)^\s+URL\s+(https?://\S+)/v1$`)
	adminLine   = regexp.MustCompile(`(?m)^\s+Admin\s+(http://\S+)   `)
	metricsLine = regexp.MustCompile(`(?m)^\s+Metrics\s+(http://\S+)$`)
)

func (s *Site) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		out := s.stdout.String()
		if strings.Contains(out, "Ctrl-C stops it.") {
			s.URL = submatch(urlLine, out)
			s.Admin = submatch(adminLine, out)
			s.Metrics = submatch(metricsLine, out)
			return nil
		}
		select {
		case <-s.done:
			return fmt.Errorf("weir ended while it started: %w\n%s", s.err, s.stderr)
		case <-ctx.Done():
			return fmt.Errorf("weir was not ready in %v\n%s", startTime, s.stderr)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func submatch(re *regexp.Regexp, text string) string {
	if m := re.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

// Stdout is what weir printed.
func (s *Site) Stdout() string { return s.stdout.String() }

// Log is what weir logged, a JSON line each.
func (s *Site) Log() string { return s.stderr.String() }

// PID is weir's process.
func (s *Site) PID() int { return s.cmd.Process.Pid }

// EnvoyPID is Envoy's process, a child of weir.
func (s *Site) EnvoyPID() (int, error) {
	dir := fmt.Sprintf("/proc/%d/task/", s.PID())
	files, err := filepath.Glob(dir + "*/children")
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("list the children of weir: %w", errors.Join(err, os.ErrNotExist))
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that ended
		}
		var pid int
		if _, err := fmt.Sscan(string(text), &pid); err == nil {
			return pid, nil
		}
	}
	return 0, errors.New("weir has no child")
}

// Signal sends a signal to weir.
func (s *Site) Signal(sig os.Signal) error { return s.cmd.Process.Signal(sig) }

// Done is closed when weir has ended.
func (s *Site) Done() <-chan struct{} { return s.done }

// Stop ends weir as Ctrl-C does, and reports if it did not end well.
func (s *Site) Stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGINT) // it may be gone already
	select {
	case <-s.done:
	case <-time.After(stopTime):
		_ = s.cmd.Process.Kill()
		<-s.done
		return fmt.Errorf("weir did not stop in %v", stopTime)
	}
	if s.err != nil {
		return fmt.Errorf("weir: %w\n%s", s.err, s.stderr)
	}
	return nil
}

// tail keeps what is written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.Write(p)
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}

// Lines calls yield with each line of a file that grows, as far as it goes now.
func Lines(file string, yield func([]byte) error) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("read lines: %w", err)
	}
	defer f.Close()
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // what stands there is not complete yet
		}
		if err != nil {
			return fmt.Errorf("read lines: %w", err)
		}
		if err := yield(line); err != nil {
			return err
		}
	}
}
