package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

// mostTime ends a run that hangs.
const mostTime = 15 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var c cli
	k := kong.Parse(&c, kong.Name("bench"),
		kong.Description("Measures what weir adds to a request: plain Envoy, Envoy with a no-op server, and weir with its counts in memory and in Redis, in turn on this machine."),
		kong.BindTo(ctx, (*context.Context)(nil)))
	switch err := k.Run(); {
	case err == nil:
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "bench: interrupted")
		stop()
		os.Exit(130)
	default:
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		stop()
		os.Exit(1)
	}
}

// cli is the command line.
type cli struct {
	Run  runCmd  `cmd:"" default:"withargs" help:"Measure and print a table (default)."`
	Noop noopCmd `cmd:"" hidden:"" help:"Serve the no-op server."`
}

// runCmd is the benchmark.
type runCmd struct {
	Rounds int      `default:"5" help:"How often each chain is measured (${default}); what other programs disturb is measured again."`
	Loads  []string `placeholder:"NAME,…" xor:"loads,json" help:"Only these loads; prints each round of them."`
	Quick  bool     `help:"A smoke run of less than a minute; its figures are rough."`
	JSON   string   `name:"json" xor:"loads,json" placeholder:"FILE" help:"Write the figures of every run to a file."`
}

// Run measures.
func (c *runCmd) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, mostTime)
	defer cancel()
	p := fullPlan(c.Rounds)
	if c.Quick {
		p = quickPlan()
	}
	if c.Loads != nil {
		if err := p.only(c.Loads); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "weir-bench-")
	if err != nil {
		return fmt.Errorf("make a folder for the run: %w", err)
	}
	defer os.RemoveAll(dir)
	b := &bench{plan: p, dir: dir, progress: newProgress(os.Stderr)}
	if err := b.build(ctx); err != nil {
		return err
	}
	about, err := describe(ctx, b.envoy, b.weir)
	if err != nil {
		return err
	}
	runs, err := b.measure(ctx)
	if err != nil {
		return err
	}
	r := newReport(about, p, runs)
	if c.Loads != nil {
		return r.printRounds(os.Stdout)
	}
	if err := r.print(os.Stdout); err != nil || c.JSON == "" {
		return err
	}
	return r.writeJSON(c.JSON)
}
