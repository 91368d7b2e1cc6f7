package envoy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"github.com/rs/zerolog"
)

const (
	startTimeout = 15 * time.Second
	stopTimeout  = 5 * time.Second
)

// Process is a running Envoy, a child of this process.
type Process struct {
	Admin *Admin

	cmd  *exec.Cmd
	done chan struct{} // closed when the child is gone
	err  error         // how it ended; read after done

	mu   sync.Mutex
	last string // newest line of its log, guarded by mu
}

// Start runs Envoy with a bootstrap, see [WriteBootstrap], and waits until it takes
// requests.
func Start(ctx context.Context, binary string, b *bootstrapv3.Bootstrap, concurrency uint32, log zerolog.Logger) (*Process, error) {
	file, _, err := WriteBootstrap(b)
	if err != nil {
		return nil, err
	}
	args := []string{"-c", file, "-l", "warning", "--log-format", "%l %n %v", "--disable-hot-restart"}
	if concurrency > 0 {
		args = append(args, "--concurrency", fmt.Sprint(concurrency))
	}
	p := &Process{Admin: NewAdmin(b.GetAdmin().GetAddress().GetPipe().GetPath()), cmd: exec.Command(binary, args...), done: make(chan struct{})}
	p.cmd.Stdout = os.Stdout // where its access log may go
	p.cmd.SysProcAttr = childAttributes()
	if err := p.launch(log); err != nil {
		return nil, err
	}
	if err := p.awaitReady(ctx); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

// launch starts the child from a thread that stays for as long as it lives: the
// kernel ends it with the thread that began it.
func (p *Process) launch(log zerolog.Logger) error {
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("run Envoy: %w", err)
	}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.copyLog(stderr, log)
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("run Envoy: %w", err)
	}
	return nil
}

// copyLog passes Envoy's log on until the child closes it.
func (p *Process) copyLog(r io.Reader, log zerolog.Logger) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		level, text, _ := strings.Cut(lines.Text(), " ")
		p.mu.Lock()
		p.last = text
		p.mu.Unlock()
		switch level {
		case "warning":
			log.Debug().Msg(text)
		case "error", "critical":
			log.Error().Msg(text)
		default:
			log.Debug().Msg(lines.Text())
		}
	}
	_, _ = io.Copy(io.Discard, r) // a line beyond the buffer must not stop Envoy
}

func (p *Process) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		if p.Admin.Ready(ctx) == nil {
			return nil
		}
		select {
		case <-p.done:
			p.mu.Lock()
			defer p.mu.Unlock()
			return fmt.Errorf("Envoy ended while it started (%w); its last words: %s", p.err, p.last)
		case <-ctx.Done():
			return fmt.Errorf("Envoy was not ready within %v", startTimeout)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Done is closed when the child is gone.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err tells, after Done, how the child ended.
func (p *Process) Err() error {
	if p.err == nil {
		return errors.New("Envoy ended")
	}
	return fmt.Errorf("Envoy ended: %w", p.err)
}

// PID is the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stop ends the child: asked first, then killed.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}
