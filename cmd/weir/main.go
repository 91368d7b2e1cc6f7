// Command weir is the gateway: the servers that Envoy asks, Envoy's
// configuration, and all that operators type.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/alecthomas/kong"

	"github.com/weir-gateway/weir/telemetry"
)

// version is set by the linker.
var version = "dev"

func main() {
	tuneGC(os.LookupEnv)
	signals, release := awaitEnds()
	code := run(signals, os.Args[1:], os.LookupEnv, os.Stdin, os.Stdout, os.Stderr)
	if signals.cut.Err() != nil && code == 0 {
		code = interrupted
	}
	release()
	os.Exit(code)
}

// tuneGC collects garbage less often than Go does by itself: what is live is a few
// megabytes, and a stream makes garbage with each chunk. GOGC overrules it.
func tuneGC(getenv func(string) (string, bool)) {
	const percent = 400
	if _, set := getenv("GOGC"); !set {
		debug.SetGCPercent(percent)
	}
}

// cli is the command line.
type cli struct {
	Up       upCmd       `cmd:"" help:"Run everything: weir, Envoy as its child, and a demo upstream if nothing is configured."`
	Serve    serveCmd    `cmd:"" help:"Run weir for an Envoy that somebody else runs."`
	Check    checkCmd    `cmd:"" help:"Check the configuration and the key files."`
	Envoy    envoyCmd    `cmd:"" help:"Print Envoy's bootstrap."`
	Health   healthCmd   `cmd:"" help:"Ask a running weir how it does: exit code 0 if requests should be sent to it, else 1."`
	Drain    drainCmd    `cmd:"" help:"Take the Envoy before a running weir out of service, without cutting an answer."`
	Limits   limitsCmd   `cmd:"" help:"Show where limits stand, or reset them."`
	Pool     poolCmd     `cmd:"" help:"Show how upstreams and their keys do, or reset, disable and enable keys."`
	Usage    usageCmd    `cmd:"" help:"Sum the usage ledger: by key, model, day and more."`
	Keys     keysCmd     `cmd:"" help:"Make, list, change, rotate and revoke client keys."`
	Top      topCmd      `cmd:"" help:"Watch a running weir: traffic, upstreams, limits, requests in flight."`
	Smoke    smokeCmd    `cmd:"" help:"Try a gateway from outside, as its clients use it."`
	Simulate simulateCmd `cmd:"" help:"Run a scripted OpenAI-compatible upstream, for demos and tests."`
	Install  installCmd  `cmd:"" help:"Copy this program, for containers that need it beside an Envoy."`
	Version  versionCmd  `cmd:"" help:"Print the versions of weir and of the Envoy it is made for."`

	PrintVersion kong.VersionFlag `name:"version" help:"Print the versions, as weir version."`
}

// env is what commands get from outside.
type env struct {
	ctx            context.Context //nolint:containedctx // lives as long as run
	cut            context.Context //nolint:containedctx // likewise: when it ends, nothing is waited for any more
	orderly        *atomic.Bool    // to be set by who has something to put in order when cut ends
	getenv         func(string) (string, bool)
	stdin          io.Reader
	stdout, stderr io.Writer
	log            *telemetry.Log // of a command that has one
}

// errNo is for answers that are a plain no, whose reasons are printed already.
var errNo = errors.New("no")

// usageError is for command lines that cannot be understood.
type usageError struct{ error }

// exit is panicked by kong when --help has been printed.
type exit int

// run is the program. It returns the exit code: 0 fine, 1 the answer is no, 2
// wrong usage.
func run(signals ends, args []string, getenv func(string) (string, bool), stdin io.Reader, stdout, stderr io.Writer) (code int) {
	defer func() {
		if e, ok := recover().(exit); ok {
			code = int(e)
		}
	}()
	if len(args) > 0 && args[0] == "help" { // of the whole, or of a command
		args = append(slices.Clone(args[1:]), "--help")
	}
	parser := kong.Must(&cli{}, kong.Name("weir"), kong.Vars{"version": versions()}, kong.Description("An OpenAI-compatible gateway whose limits hold exactly."),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { panic(exit(code)) }), kong.UsageOnError())
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "weir: %v\nTry: weir --help\n", err)
		return 2
	}
	var usage usageError
	e := &env{ctx: signals.stop, cut: signals.cut, orderly: signals.orderly, getenv: getenv, stdin: stdin, stdout: stdout, stderr: stderr}
	err = command.Run(e)
	if e.log != nil {
		_ = e.log.Flush() // whom would it be told?
	}
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		complain(stderr, err)
		return 2
	case !errors.Is(err, errNo):
		complain(stderr, err)
	}
	return 1
}

// placed are lines that begin with the place of a file that they are about.
var placed = regexp.MustCompile(`^\S.*?:\d+:\d+: `)

// complain prints an error. Its lines begin with their place, as compilers' do, or else
// with the name of the program.
func complain(w io.Writer, err error) {
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimRight(line, "\n"); !placed.MatchString(line) {
			line = "weir: " + line
		}
		fmt.Fprintln(w, line)
	}
}
