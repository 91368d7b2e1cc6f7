package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/weir-gateway/weir/admin"
	"github.com/weir-gateway/weir/answers"
	"github.com/weir-gateway/weir/api"
	"github.com/weir-gateway/weir/authz"
	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/dashboard"
	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/extproc"
	"github.com/weir-gateway/weir/gateway"
	"github.com/weir-gateway/weir/h2loop"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/ledger"
	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/telemetry"
	"github.com/weir-gateway/weir/upstream"
)

// messageRoom is what a gRPC message needs beside a request's body.
const messageRoom = 1 << 20

// server is everything that weir serves, wired. Its parts run from listen until
// stop.
type server struct {
	cfg       *config.Config
	log       zerolog.Logger
	sockets   envoy.Sockets
	config    atomic.Pointer[config.Config] // in force; cfg is what weir was started with
	reloader  *reloader
	bootstrap *bootstrapv3.Bootstrap // of the Envoy that is to be before it
	replaced  bool                   // another bootstrap was there before
	keys      *keyring.Keyring
	gateway   *gateway.Gateway
	ledger    *ledger.Ledger
	store     *store
	traces    *telemetry.Tracer // nil: there are none
	upstreams *upstream.Directory
	api       *api.API

	envoy   *h2loop.Server // asked by Envoy
	apiHTTP *http.Server
	ops     *http.Server
	metrics *http.Server         // nil: not served
	admin   *http.Server         // nil: not served
	token   *admin.Token         // of admin
	pages   *dashboard.Dashboard // of admin; nil: not served

	listeners struct{ grpc, api, ops, metrics, admin net.Listener }
	cancel    context.CancelFunc // ends run's own goroutines
}

// newServer wires the parts in the order in which they need each other.
func newServer(cfg *config.Config, load func() (*config.Config, error), keys *keyring.Keyring, sockets envoy.Sockets, logs *telemetry.Log) (*server, error) {
	log := logs.Logger
	s := &server{cfg: cfg, log: log, sockets: sockets, keys: keys}
	s.config.Store(cfg)
	s.reloader = &reloader{server: s, load: load, log: log, loaded: time.Now()}
	metrics := telemetry.NewMetrics()
	instance := rand.Uint64() // exchanges of two processes must never be taken for each other
	var err error
	if s.store, err = openStore(cfg, instance, metrics, log); err != nil {
		return nil, err
	}
	if s.upstreams, err = openUpstreams(cfg, s.store.share, metrics, log); err != nil {
		return nil, err
	}
	if l := cfg.Ledger; l.File != "" {
		if s.ledger, err = ledger.Open(ledger.Options{File: l.File, MaxBytes: l.MaxBytes, Keep: l.Keep}, log); err != nil {
			return nil, err
		}
	}
	if s.traces, err = telemetry.OpenTracer(context.Background(), os.LookupEnv, version, log); err != nil {
		return nil, err
	}
	s.gateway, err = gateway.New(gateway.Options{
		Config: cfg, Models: s.upstreams, Keys: keys, Limits: s.store, Instance: instance, Ledger: s.ledger, Metrics: metrics, Traces: s.traces, Log: logs.Requests,
	})
	if err != nil {
		return nil, err
	}
	noted := cfg.Envoy.AccessLog != ""
	callers := authz.New(keys, s.denied, metrics)
	processor := extproc.New(callers, s.gateway, extproc.Options{Noted: noted, Waits: s.store.waits}, log)
	s.envoy = h2loop.New(h2loop.Options{
		Methods: map[string]func(*h2loop.Call) h2loop.Receiver{
			authv3.Authorization_Check_FullMethodName:                    callers.Check,
			extprocv3.ExternalProcessor_Process_FullMethodName:           func(c *h2loop.Call) h2loop.Receiver { return processor.Process(c) },
			accesslogv3.AccessLogService_StreamAccessLogs_FullMethodName: answers.NewAccessLog(s.gateway, log).StreamAccessLogs,
		},
		Plain:      answers.Handler(s.gateway, answers.Options{Noted: noted, Waits: s.store.waits}),
		MaxMessage: int(cfg.Envoy.MaxRequestBytes) + messageRoom,
		Panicked: func(p any) {
			log.Error().Str("panic", fmt.Sprint(p)).Bytes("stack", debug.Stack()).Msg("a question of Envoy's met a bug in weir")
		},
		Failed: func(err error) {
			log.Error().Err(err).Msg("a connection of Envoy's could not be taken: weir tries again")
		},
	})
	s.api, err = api.New(api.Options{
		Models: s.upstreams, Keys: keys, Metrics: metrics, Limits: s.gateway.KeyUsage, Store: s.store.health, Config: s.reloader.health,
		KeyHeader: envoy.HeaderKey, Version: version,
	})
	if err != nil {
		return nil, err
	}
	s.apiHTTP = newHTTP(s.api)
	if err := s.openAdmin(metrics); err != nil {
		return nil, err
	}
	if cfg.MetricsListen != "" {
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", metrics.Handler())
		mux.Handle("GET /metrics/envoy", envoyMetrics(sockets.Admin, log))
		s.metrics = newHTTP(admin.SameHost(mux))
	}
	registerGauges(metrics, s)
	return s, nil
}

// openAdmin makes the servers that operators ask.
func (s *server) openAdmin(metrics *telemetry.Metrics) (err error) {
	opts := admin.Options{
		Gateway: s.gateway, Upstreams: s.upstreams, Keys: s.keys, Config: s.config.Load, Metrics: metrics.Handler(), Log: s.log,
	}
	if s.reloader.load != nil {
		opts.Reload = func(ctx context.Context) ([]string, error) {
			err := s.reloader.reload(ctx, true)
			return fixedChanges(s.cfg, s.config.Load()), err
		}
	}
	operators := admin.New(opts)
	s.ops = newHTTP(operators)
	if s.cfg.Admin.Listen == "" {
		return nil
	}
	if s.token, err = admin.OpenToken(s.cfg.Admin.TokenFile); err != nil {
		return err
	}
	handler := operators.Guarded(s.token)
	if s.cfg.Admin.Dashboard {
		if handler, err = s.withDashboard(operators, handler, metrics); err != nil {
			return err
		}
	}
	s.admin = newHTTP(admin.SameHost(handler))
	s.admin.ReadTimeout = 30 * time.Second // strangers reach it, and bodies are read before a token is seen
	// gRPC speaks HTTP/2, here without TLS: the network is the operator's.
	s.admin.Protocols = &http.Protocols{}
	s.admin.Protocols.SetHTTP1(true)
	s.admin.Protocols.SetUnencryptedHTTP2(true)
	return nil
}

// envoyMetrics passes Envoy's metrics on, whose own interface no network reaches.
func envoyMetrics(socket string, log zerolog.Logger) http.Handler {
	const patience = 5 * time.Second
	proxy := envoy.NewAdmin(socket)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		text, err := proxy.Stats(ctx)
		if err != nil {
			log.Debug().Err(err).Msg("Envoy's metrics could not be read")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = w.Write(text) // who asked may be gone
	})
}

// withDashboard adds the pages for operators to what is answered to their programs.
func (s *server) withDashboard(operators *admin.Admin, programs http.Handler, metrics *telemetry.Metrics) (http.Handler, error) {
	opts := dashboard.Options{
		Services: operators.Services(), Token: s.token, Keys: s.keys.Status, Store: s.store.seen,
		Plans:   func() []string { return slices.Sorted(maps.Keys(s.config.Load().Plans)) },
		Metrics: metrics.Gatherer(), Version: version, Log: s.log,
	}
	if s.reloader.load != nil {
		opts.Loaded = s.reloader.status
	}
	var err error
	if s.pages, err = dashboard.New(opts); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", s.pages)
	mux.Handle("/dashboard", s.pages)
	mux.Handle("/dashboard/", s.pages)
	mux.Handle("/", programs)
	return mux, nil
}

// denied is how authz asks the gateway.
func (s *server) denied(key *keyring.Key, endpoint openai.Endpoint, requestID string, trace telemetry.TraceContext, start time.Time) *openai.Error {
	return s.gateway.Denied(gateway.Call{RequestID: requestID, KeyID: key.ID, Endpoint: endpoint, Start: start, Trace: trace}, key)
}

// registerGauges adds what is read at each scrape.
func registerGauges(m *telemetry.Metrics, s *server) {
	m.Build(version)
	m.Gauge("weir_keys", "Client keys in force.", func() float64 { return float64(s.keys.Status().Keys) })
	m.Gauge("weir_keys_stale", "1 while the newest key files have a mistake and older ones are in force.", func() float64 {
		if s.keys.Status().Err != nil {
			return 1
		}
		return 0
	})
	m.Gauge("weir_config_stale", "1 while the newest weir.yaml was not taken and an older one is in force.", func() float64 {
		if s.reloader.health().Status != "ok" {
			return 1
		}
		return 0
	})
	m.Counter("weir_ledger_lines_lost_total", "Lines of the usage ledger that could not be written.", func() float64 { return float64(s.ledger.Lost()) })
	m.Gauge("weir_exchanges_live", "Exchanges that have not ended.", func() float64 { return float64(s.gateway.Live()) })
}

func newHTTP(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
}

// listen opens the sockets.
func (s *server) listen() (err error) {
	defer func() {
		if err != nil {
			s.closeListeners()
		}
	}()
	if s.listeners.grpc, err = listenUnix(s.sockets.GRPC, forEnvoy); err != nil {
		return err
	}
	if s.listeners.api, err = listenUnix(s.sockets.API, forEnvoy); err != nil {
		return err
	}
	if s.listeners.ops, err = listenUnix(s.sockets.Ops, forOwner); err != nil {
		return err
	}
	if s.admin != nil {
		if s.listeners.admin, err = net.Listen("tcp", s.cfg.Admin.Listen); err != nil {
			return portError("admin.listen", s.cfg.Admin.Listen, err)
		}
	}
	if s.metrics == nil {
		return nil
	}
	if s.listeners.metrics, err = net.Listen("tcp", s.cfg.MetricsListen); err != nil {
		return portError("metrics.listen", s.cfg.MetricsListen, err)
	}
	return nil
}

// closeListeners closes those that were opened.
func (s *server) closeListeners() {
	for _, l := range []net.Listener{s.listeners.grpc, s.listeners.api, s.listeners.ops, s.listeners.metrics, s.listeners.admin} {
		if l != nil {
			_ = l.Close()
		}
	}
}

// Modes of sockets.
const (
	forEnvoy os.FileMode = 0o660
	forOwner os.FileMode = 0o600
)

// listenUnix takes a socket's path over from a process that is gone.
func listenUnix(path string, mode os.FileMode) (net.Listener, error) {
	if c, err := net.Dial("unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("another weir serves %s: stop it, or give this one another run_dir", path), c.Close())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("take over a socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open a socket: %w", err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// portError says what to do about an address that cannot be had.
func portError(field, addr string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s: %s is in use by another program: stop it, or choose another port", field, addr)
	}
	return fmt.Errorf("%s: %w", field, err)
}

// run serves until ctx ends, and then until stop has closed every server.
func (s *server) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.envoy.Serve(s.listeners.grpc) })
	group.Go(func() error { return served(s.apiHTTP.Serve(s.listeners.api)) })
	group.Go(func() error { return served(s.ops.Serve(s.listeners.ops)) })
	if s.metrics != nil {
		group.Go(func() error { return served(s.metrics.Serve(s.listeners.metrics)) })
	}
	if s.admin != nil {
		group.Go(func() error { return served(s.admin.Serve(s.listeners.admin)) })
	}
	if s.pages != nil {
		group.Go(func() error { return s.pages.Run(ctx) })
	}
	group.Go(func() error { return s.keys.Watch(ctx) })
	group.Go(func() error { return s.gateway.RenewLeases(ctx) })
	group.Go(func() error { return s.store.run(ctx) })
	group.Go(func() error { return s.upstreams.Run(ctx) })
	group.Go(func() error { return s.reloader.watch(ctx) })
	group.Go(func() error { return s.reloadOnHangup(ctx) })
	return group.Wait()
}

// served is the outcome of a server, whose regular end is no error, even if it comes
// before the beginning.
func served(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// shutDown lets a server end what it does, for a moment. Connections on which nothing
// was asked yet would keep it for longer.
func shutDown(h *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if err := h.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return h.Close()
}

// reloadOnHangup reads everything again on SIGHUP, and opens the ledger again. Keys come
// first: the configuration may wait for Envoy. A second one soon after means it where
// too many keys were gone.
func (s *server) reloadOnHangup(ctx context.Context) error {
	const soon = time.Minute
	var refused time.Time // when a hangup found too many keys gone
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangup:
			s.ledger.Reopen()
			force := !refused.IsZero() && time.Since(refused) < soon
			s.keys.ReloadLogged(force)
			refused = time.Time{}
			if vanished := (*keyring.VanishedError)(nil); errors.As(s.keys.Status().Err, &vanished) {
				refused = time.Now()
			}
			_ = s.upstreams.Reload() // which logs
			if s.token != nil {
				if err := s.token.Reload(); err != nil {
					s.log.Error().Err(err).Msg("the admin token was not read again: the last one stays in force")
				}
			}
			if s.reloader.load != nil {
				_ = s.reloader.reload(ctx, true) // which logs
			}
		}
	}
}

// stop closes the servers. Exchanges that are still open are settled by the end
// of their streams.
func (s *server) stop() error {
	const patience = 2 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s.cancel()
	s.gateway.Hurry()
	s.envoy.Stop()
	var errs []error
	for _, h := range []*http.Server{s.apiHTTP, s.ops, s.metrics, s.admin} {
		if h != nil {
			errs = append(errs, shutDown(h))
		}
	}
	s.gateway.Drain(ctx)
	if err := s.traces.Close(ctx); err != nil {
		s.log.Warn().Err(err).Msg("the last traces are lost")
	}
	s.store.close()
	return errors.Join(append(errs, s.ledger.Close())...)
}
