package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-gateway/weir/envoy"
)

// drainCmd is weir drain.
type drainCmd struct {
	configFlags
	RunDir  string        `placeholder:"DIR" help:"Folder of the running weir's sockets. Default: the configuration's run_dir."`
	Wait    time.Duration `default:"5s" placeholder:"DURATION" help:"How long new connections are still taken, until whoever sends clients here has learned that this Envoy ends (${default})."`
	Timeout time.Duration `default:"5m" placeholder:"DURATION" help:"How long requests may take to end after that (${default})."`
	Quit    bool          `help:"End Envoy then."`
}

// Help is shown with weir drain --help.
func (drainCmd) Help() string {
	return `Works on the Envoy of this machine. What is drained takes no connections until it is started again.`
}

// Run takes Envoy out of service: its clients are told to open no more requests on
// their connections, and the requests that run come to their end. Exit code 1 tells
// that some did not.
func (c *drainCmd) Run(e *env) error {
	sockets, err := hereFlags{configFlags: c.configFlags, RunDir: c.RunDir}.sockets(e)
	if err != nil {
		return err
	}
	proxy := envoy.NewAdmin(sockets.Admin)
	if err := proxy.Fail(e.ctx); err != nil {
		return err
	}
	fmt.Fprintf(e.stderr, "Clients are asked to leave; new connections are taken for %v more.\n", c.Wait)
	sleep(e.ctx, c.Wait)
	if err := proxy.Drain(e.ctx); err != nil {
		return err
	}
	if n, err := proxy.Active(e.ctx); err == nil && n > 0 {
		fmt.Fprintf(e.stderr, "No new connections are taken. Requests that run: %d; they have %v.\n", n, c.Timeout)
	}
	left, err := c.await(e.ctx, proxy)
	if err != nil {
		return err
	}
	if left > 0 {
		err = fmt.Errorf("%d requests did not end within %v", left, c.Timeout)
	}
	if left == 0 && !c.Quit {
		fmt.Fprintln(e.stderr, "No request runs. Envoy takes no connections until it is started again.")
	}
	if c.Quit {
		err = errors.Join(err, proxy.Quit(e.ctx))
	}
	return err
}

// await waits until no request runs, and returns how many do in the end.
func (c *drainCmd) await(ctx context.Context, proxy *envoy.Admin) (left int, err error) {
	for deadline := time.Now().Add(c.Timeout); ; sleep(ctx, 100*time.Millisecond) {
		if left, err = proxy.Active(ctx); err != nil || left == 0 || ctx.Err() != nil || time.Now().After(deadline) {
			return left, err
		}
	}
}

// sleep ends early if ctx does.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
