package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"github.com/redis/go-redis/v9/logging"
	"github.com/rs/zerolog"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/e2e/site"
	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/ratelimit/redistest"
)

// The chains.
const (
	chainPlain = "plain"
	chainGRPC  = "grpc" // the no-op server, served with grpc-go
	chainNoop  = "noop" // the same, served as weir serves
	chainWeir  = "weir"
	chainRedis = "redis" // weir that counts in Redis
	chainPiece = "piece" // weir that sees each piece of a stream
)

// chainNames are in the order of the tables.
func chainNames() []string {
	return []string{chainPlain, chainGRPC, chainNoop, chainWeir, chainPiece, chainRedis}
}

// turnOrder is who follows whom: chains whose ratio is a goal come one after the other, since
// the machine may be another in half a minute.
func turnOrder() []string {
	return []string{chainPlain, chainWeir, chainNoop, chainPiece, chainGRPC, chainRedis}
}

// streaming are the chains that streams are for.
func streaming() []string { return append(compared(), chainPiece) }

// compared are the chains that most loads are for.
func compared() []string { return []string{chainPlain, chainNoop, chainWeir} }

// withGRPC adds the chain that tells what weir's way of serving is worth.
func withGRPC(chains []string) []string { return append(chains, chainGRPC) }

// chain is one that runs.
type chain struct {
	addr   string // host:port of its listener
	envoy  int    // process id
	server int    // process id of the Go server; 0: there is none
	redis  int    // process id of redis-server; 0: there is none
	stop   func() error
}

// startChain runs one in a new folder, in front of that upstream.
func (b *bench) startChain(ctx context.Context, name, dir, upstream string) (*chain, error) {
	if name == chainRedis {
		return b.startWeirOnRedis(ctx, dir, upstream)
	}
	metering := "auto"
	if name == chainPiece {
		metering = "streamed"
	}
	if err := writeSite(dir, upstream, "", metering); err != nil {
		return nil, err
	}
	switch name {
	case chainWeir, chainPiece:
		return b.startWeir(ctx, dir)
	case chainNoop:
		return b.startNoop(ctx, dir)
	case chainGRPC:
		return b.startNoop(ctx, dir, "--grpc")
	default:
		return b.startPlain(ctx, dir)
	}
}

// startPlain runs Envoy alone.
func (b *bench) startPlain(ctx context.Context, dir string) (*chain, error) {
	_, boot, err := generated(dir)
	if err != nil {
		return nil, err
	}
	if err := strip(boot); err != nil {
		return nil, err
	}
	return b.startEnvoy(ctx, boot)
}

// startNoop runs Envoy as weir configures it, and the no-op server.
func (b *bench) startNoop(ctx context.Context, dir string, flags ...string) (*chain, error) {
	cfg, boot, err := generated(dir)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	sockets, err := envoy.SocketsIn(dir)
	if err != nil {
		return nil, err
	}
	args := append([]string{
		"noop", "--socket", sockets.GRPC, "--upstream", upstreamName, "--max-body", strconv.Itoa(int(cfg.Envoy.MaxRequestBytes)),
	}, flags...)
	server, err := startChild(ctx, regexp.MustCompile(`^(ready)$`), self, args...)
	if err != nil {
		return nil, err
	}
	c, err := b.startEnvoy(ctx, boot)
	if err != nil {
		return nil, errors.Join(err, server.stop())
	}
	stopEnvoy := c.stop
	c.server = server.pid()
	c.stop = func() error { return errors.Join(stopEnvoy(), server.stop()) }
	return c, nil
}

// startEnvoy runs Envoy as a child, with one worker.
func (b *bench) startEnvoy(ctx context.Context, boot *bootstrapv3.Bootstrap) (*chain, error) {
	p, err := envoy.Start(ctx, b.envoy, boot, 1, zerolog.New(os.Stderr).Level(zerolog.WarnLevel))
	if err != nil {
		return nil, err
	}
	stop := func() error {
		p.Stop()
		return nil
	}
	addr, err := p.Admin.Listening(ctx)
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return &chain{addr: addr, envoy: p.PID(), stop: stop}, nil
}

// startWeir runs weir up with all that a site has.
func (b *bench) startWeir(ctx context.Context, dir string) (*chain, error) {
	// The log goes to a file, as it does in service; the script becomes weir.
	script, log := dir+".sh", dir+".log"
	text := fmt.Sprintf("#!/bin/sh\nexec '%s' \"$@\" 2>>'%s'\n", b.weir, log)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		return nil, fmt.Errorf("write a script: %w", err)
	}
	s, err := site.Start(ctx, script, dir, []string{"--log-level", "info"})
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, lastLines(log))
	}
	c := &chain{addr: strings.TrimPrefix(s.URL, "http://"), server: s.PID(), stop: s.Stop}
	if c.envoy, err = s.EnvoyPID(); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return c, nil
}

// startWeirOnRedis runs weir up and a Redis for it.
func (b *bench) startWeirOnRedis(ctx context.Context, dir, upstream string) (*chain, error) {
	if redistest.Binary() == "" {
		return nil, errors.New("no redis-server: make redis installs it")
	}
	logging.Disable() // of what the client says until it is up
	server, err := redistest.Launch()
	if err != nil {
		return nil, err
	}
	c, err := b.startWeirOn(ctx, server, dir, upstream)
	if err != nil {
		server.Close()
		return nil, err
	}
	return c, nil
}

func (b *bench) startWeirOn(ctx context.Context, server *redistest.Server, dir, upstream string) (*chain, error) {
	info, err := server.Client.Info(ctx, "server").Result()
	if err != nil {
		return nil, fmt.Errorf("ask Redis for its process: %w", err)
	}
	m := regexp.MustCompile(`process_id:(\d+)`).FindStringSubmatch(info)
	if m == nil {
		return nil, fmt.Errorf("redis tells no process_id: %q", info)
	}
	pid, err := strconv.Atoi(m[1])
	if err != nil {
		return nil, fmt.Errorf("redis' process_id: %w", err)
	}
	if err := writeSite(dir, upstream, server.TCP(), "auto"); err != nil {
		return nil, err
	}
	c, err := b.startWeir(ctx, dir)
	if err != nil {
		return nil, err
	}
	stopWeir := c.stop
	c.redis = pid
	c.stop = func() error {
		defer server.Close()
		return stopWeir()
	}
	return c, nil
}

// generated is the configuration in dir, and the bootstrap that weir makes of it.
func generated(dir string) (*config.Config, *bootstrapv3.Bootstrap, error) {
	cfg, err := config.Load(filepath.Join(dir, "weir.yaml"), os.LookupEnv)
	if err != nil {
		return nil, nil, err
	}
	sockets, err := envoy.SocketsIn(dir)
	if err != nil {
		return nil, nil, err
	}
	boot, err := envoy.Bootstrap(cfg, sockets, envoy.SystemCA())
	return cfg, boot, err
}

// lastLines is the end of a log, for an error's message.
func lastLines(file string) []byte {
	const most = 2000
	text, err := os.ReadFile(file)
	if err != nil {
		return []byte(err.Error())
	}
	return text[max(0, len(text)-most):]
}
