package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/simulator"
	"github.com/weir-gateway/weir/telemetry"
)

// demoListen is where the demo listens: on this machine only.
const demoListen = "127.0.0.1:8080"

// runFlags are common to up and serve.
type runFlags struct {
	Config string `short:"c" placeholder:"FILE" help:"Configuration. Default: $$CONFIG_FILE, else ./weir.yaml, else what $$MEGALLM_BASE_URL says, else the built-in demo."`
	logFlags
	Listen string        `placeholder:"HOST:PORT" help:"Public address, instead of the configuration's."`
	Notice time.Duration `default:"0s" placeholder:"DURATION" help:"How long requests are still taken when weir is told to stop, while /health tells load balancers of it (${default})."`
	Drain  time.Duration `default:"30s" placeholder:"DURATION" help:"How long running answers may take after that (${default})."`
}

// site is what is served: the configuration, its keys, and the demo upstream if
// there is no configuration.
type site struct {
	cfg    *config.Config
	load   func() (*config.Config, error) // reads cfg again; nil without a file
	keys   *keyring.Keyring
	secret string // of the demo's key; "" without demo
	token  string // of the demo's admin API; "" elsewhere
	stop   func() // ends the demo upstream
}

// open reads the configuration, or starts the demo.
func (f runFlags) open(e *env, log zerolog.Logger) (*site, error) {
	flags := configFlags{f.Config}
	cfg, err := flags.draft(e)
	if cfg == nil && err == nil {
		return openDemo(f.Listen)
	}
	if cfg == nil {
		return nil, err
	}
	// All that is wrong is told, as by weir check.
	if err := config.Join(err, unreadable(cfg, filesOf(cfg))); err != nil {
		return nil, err
	}
	if f.Listen != "" {
		cfg.Listen = f.Listen
	}
	if cfg.File == "" {
		return openMegaLLM(cfg, log)
	}
	load := func() (*config.Config, error) {
		cfg, err := config.Load(cfg.File, e.getenv)
		if err == nil && f.Listen != "" {
			cfg.Listen = f.Listen
		}
		return cfg, err
	}
	keys, err := openKeys(cfg, log)
	if err != nil {
		return nil, err
	}
	return &site{cfg: cfg, load: load, keys: keys, stop: func() {}}, nil
}

// openMegaLLM is the site of a key-rotating proxy whose environment is all there
// is: the keys of the upstream in data/keys.txt, those of clients in
// config/api_keys.json, or one made for this run.
func openMegaLLM(cfg *config.Config, log zerolog.Logger) (s *site, err error) {
	s = &site{cfg: cfg, stop: func() {}}
	if len(cfg.Keys.Files) > 0 {
		s.keys, err = openKeys(cfg, log)
		return s, err
	}
	s.secret, s.keys = demoKey()
	return s, nil
}

// openDemo starts the demo upstream.
func openDemo(listen string) (s *site, err error) {
	model, err := simulator.ParseModel("demo=text=answer,pace=20ms,ttft=150ms")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "weir-demo-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the demo: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, failed := make(chan string, 1), make(chan error, 1)
	var running sync.WaitGroup
	running.Go(func() {
		opts := simulator.Options{Models: []simulator.Model{model}}
		failed <- simulator.Serve(ctx, "127.0.0.1:0", opts, func(addr string) { ready <- addr })
	})
	stop := func() {
		cancel()
		running.Wait()
		_ = os.RemoveAll(dir)
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	select {
	case err := <-failed:
		return nil, err
	case addr := <-ready:
		if listen == "" {
			listen = demoListen
		}
		token := rand.Text()
		file := filepath.Join(dir, "admin.token")
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			return nil, fmt.Errorf("write the demo's admin token: %w", err)
		}
		cfg, err := demo(map[string]string{"LISTEN": listen, "UPSTREAM": "http://" + addr + "/v1", "ADMIN": usual("9090"), "METRICS": usual("9091"), "TOKEN_FILE": file})
		if err != nil {
			return nil, err
		}
		secret, keys := demoKey()
		return &site{cfg: cfg, keys: keys, secret: secret, token: token, stop: stop}, nil
	}
}

// usual is an address with that port, or with any that is free if it is not.
func usual(port string) string {
	if addr := net.JoinHostPort("127.0.0.1", port); portFree(addr) == nil {
		return addr
	}
	return "127.0.0.1:0"
}

// serveCmd is weir serve.
type serveCmd struct {
	runFlags
}

// Run serves until it is told to stop.
func (c *serveCmd) Run(e *env) error {
	log, err := c.logger(e)
	if err != nil {
		return err
	}
	site, err := c.open(e, log)
	if err != nil {
		return err
	}
	defer site.stop()
	dir := runDir(e, site.cfg)
	if err := secureDir(dir); err != nil {
		return err
	}
	s, done, err := startServer(site, dir, e.log)
	if err != nil {
		return err
	}
	if s.replaced {
		log.Warn().Str("file", envoy.BootstrapFile).Msg("Envoy's bootstrap has changed: an Envoy that runs takes it when it is started again")
	}
	log.Info().Str("grpc", s.sockets.GRPC).Str("api", s.sockets.API).Msg("weir is ready for Envoy")
	notify(e, notifyReady, log)
	if site.secret != "" {
		fmt.Fprintf(e.stdout, "Demo key: %s\n", site.secret)
	}
	if site.token != "" {
		fmt.Fprintf(e.stdout, "Dashboard: http://%s/dashboard/ with the token %s\n", s.listeners.admin.Addr(), site.token)
	}
	select {
	case err := <-done:
		return errors.Join(fmt.Errorf("a server ended: %w", err), s.stop())
	case <-e.ctx.Done():
	}
	c.takeLeave(e, s, nil)
	return c.stopServer(e, s, done)
}

// startServer opens the sockets and serves them. What ends the servers comes
// out of the channel.
func startServer(site *site, dir string, log *telemetry.Log) (*server, <-chan error, error) {
	sockets, err := envoy.SocketsIn(dir)
	if err != nil {
		return nil, nil, err
	}
	s, err := newServer(site.cfg, site.load, site.keys, sockets, log)
	if err != nil {
		return nil, nil, err
	}
	if err := s.listen(); err != nil {
		return nil, nil, err
	}
	// Not before: another weir may serve this folder.
	if s.bootstrap, s.reloader.written, err = envoy.WriteFiles(site.cfg, sockets, envoy.SystemCA()); err != nil {
		s.closeListeners()
		return nil, nil, err
	}
	// Before health is answered: an Envoy that somebody else runs is started then.
	if _, s.replaced, err = envoy.WriteBootstrap(s.bootstrap); err != nil {
		s.closeListeners()
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	done := make(chan error, 1)
	go func() { done <- s.run(ctx) }()
	return s, done, nil
}

// takeLeave tells that weir stops, and waits until load balancers know, or Envoy has
// ended.
func (f runFlags) takeLeave(e *env, s *server, envoyEnded <-chan struct{}) {
	e.orderly.Store(true)
	notify(e, notifyStopping, s.log)
	s.api.Drain()
	if f.Notice == 0 {
		return
	}
	s.log.Info().Dur("notice_ms", f.Notice).Msg("stopping: health is 503, requests are still taken")
	onTerminal(e, fmt.Sprintf("Requests are still taken for %v. Ctrl-C again ends at once.", f.Notice))
	select {
	case <-e.cut.Done():
	case <-envoyEnded:
	case <-time.After(f.Notice):
	}
}

// stopServer lets running answers end, unless weir is told again to end, and then closes
// everything.
func (f runFlags) stopServer(e *env, s *server, done <-chan error) error {
	e.orderly.Store(true)
	ctx, cancel := context.WithTimeout(e.cut, f.Drain)
	defer cancel()
	if n := s.gateway.Live(); n > 0 {
		s.log.Info().Int("exchanges", n).Dur("deadline_ms", f.Drain).Msg("stopping: waiting for answers to end")
		onTerminal(e, fmt.Sprintf("Waiting for %s to end, for %v at most. Ctrl-C again ends at once.", count(n, "answer"), f.Drain))
	}
	if n := s.gateway.Drain(ctx); n > 0 {
		s.log.Warn().Int("exchanges", n).Msg("stopping: answers are cut off")
	}
	err := s.stop()
	return errors.Join(err, <-done)
}

// onTerminal says something to who sits there.
func onTerminal(e *env, text string) {
	if f, ok := e.stderr.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		fmt.Fprintf(f, "\n%s\n", text) // the terminal has shown ^C
	}
}

// upCmd is weir up.
type upCmd struct {
	runFlags
}

// Run starts everything, and stops it when it is told to.
func (c *upCmd) Run(e *env) error {
	log, err := c.logger(e)
	if err != nil {
		return err
	}
	binary, err := findEnvoy(e)
	if err != nil {
		return err
	}
	site, err := c.open(e, log)
	if err != nil {
		return err
	}
	defer site.stop()
	if err := checkCertificate(site.cfg); err != nil {
		return err
	}
	if err := portFree(site.cfg.Listen); err != nil {
		return err
	}
	dir := runDir(e, site.cfg)
	if site.secret != "" { // several demos may run
		if dir, err = os.MkdirTemp("", "weir-"); err != nil {
			return fmt.Errorf("make the folder of the sockets: %w", err)
		}
		defer os.RemoveAll(dir)
	}
	if err := secureDir(dir); err != nil {
		return err
	}
	s, done, err := startServer(site, dir, e.log)
	if err != nil {
		return err
	}
	return c.withEnvoy(e, binary, site, s, done)
}

// withEnvoy runs Envoy in front of a running server until it is told to stop.
func (c *upCmd) withEnvoy(e *env, binary string, site *site, s *server, done <-chan error) error {
	stop := func(err error) error {
		if stopped := c.stopServer(e, s, done); err == nil {
			err = stopped
		}
		return err
	}
	p, err := envoy.Start(e.ctx, binary, s.bootstrap, site.cfg.Envoy.Concurrency, s.log)
	if err != nil {
		return stop(err)
	}
	defer p.Stop()
	addr, err := p.Admin.Listening(e.ctx)
	if err != nil {
		return stop(err)
	}
	c.announce(e, site, s, addr)
	notify(e, notifyReady, s.log)
	select {
	case <-p.Done():
		return stop(p.Err())
	case err := <-done:
		return errors.Join(fmt.Errorf("a server ended: %w", err), s.stop())
	case <-e.ctx.Done():
	}
	ctx := context.WithoutCancel(e.ctx)
	if err := p.Admin.Fail(ctx); err != nil {
		s.log.Warn().Err(err).Msg("Envoy could not be told that it ends")
	}
	c.takeLeave(e, s, p.Done())
	if err := p.Admin.Drain(ctx); err != nil {
		s.log.Warn().Err(err).Msg("Envoy could not be told to drain")
	}
	return stop(nil)
}

// portFree says early, and in plain words, what Envoy would say late.
func portFree(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return portError("listen", addr, err)
	}
	return l.Close()
}
