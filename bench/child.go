package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"time"
)

const (
	readyTime = 10 * time.Second
	stopTime  = 5 * time.Second
)

// child is a process that serves until it is stopped.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	done  chan error
	ready string // what it said when it was ready
}

// startChild runs a command and waits for the line that says that it is ready.
// Its first group is kept.
func startChild(ctx context.Context, ready *regexp.Regexp, name string, args ...string) (*child, error) {
	c := &child{cmd: exec.Command(name, args...), done: make(chan error, 1)}
	out, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	c.cmd.Stdout, c.cmd.Stderr = in, in
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, errors.Join(err, in.Close(), out.Close())
	}
	err = c.cmd.Start()
	_ = in.Close() // the child's now: its end is to be seen here
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), out.Close())
	}
	lines := make(chan string, 1)
	go func() {
		defer out.Close()
		watch(out, ready, lines)
		c.done <- c.cmd.Wait()
	}()
	return c, c.await(ctx, lines)
}

// watch reads all that a child prints, and passes what matches on.
func watch(r io.Reader, ready *regexp.Regexp, found chan<- string) {
	defer close(found)
	lines, told := bufio.NewScanner(r), false
	for lines.Scan() {
		m := ready.FindStringSubmatch(lines.Text())
		switch {
		case m != nil && !told:
			told = true
			found <- m[1]
		default:
			fmt.Fprintln(os.Stderr, lines.Text())
		}
	}
	_, _ = io.Copy(io.Discard, r) // a line beyond the buffer must not stop it
}

func (c *child) await(ctx context.Context, lines <-chan string) error {
	select {
	case line, ok := <-lines:
		if !ok {
			return fmt.Errorf("%s ended before it was ready", c.cmd.Path)
		}
		c.ready = line
		return nil
	case <-ctx.Done():
		return errors.Join(ctx.Err(), c.stop())
	case <-time.After(readyTime):
		return errors.Join(fmt.Errorf("%s was not ready in %v", c.cmd.Path, readyTime), c.stop())
	}
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// stop ends the child: asked first, then killed.
func (c *child) stop() error {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
	defer c.stdin.Close()
	select {
	case err := <-c.done:
		if _, failed := errors.AsType[*exec.ExitError](err); failed {
			return fmt.Errorf("%s: %w", c.cmd.Path, err)
		}
		return nil
	case <-time.After(stopTime):
		_ = c.cmd.Process.Kill()
		return errors.Join(fmt.Errorf("%s did not stop in %v", c.cmd.Path, stopTime), <-c.done)
	}
}
