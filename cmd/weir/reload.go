package main

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/weir-gateway/weir/api"
	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/gateway"
	"github.com/weir-gateway/weir/watch"
)

const (
	// acceptTimeout is how long Envoy may take to work with new routes and
	// upstreams; it resolves the names of new ones first.
	acceptTimeout = 15 * time.Second
	// retire is for how long an upstream that was taken out of the configuration
	// can still be reached by requests that were admitted before.
	retire = 10 * time.Minute
)

// reloader takes the configuration again when its file changes.
type reloader struct {
	server *server
	load   func() (*config.Config, error) // nil: there is no file
	log    zerolog.Logger

	reloading sync.Mutex // one at a time; guards retired and written
	retired   map[string]retired
	written   *envoy.Resources // what Envoy reads

	mu     sync.Mutex // guards what follows; never held for long
	loaded time.Time
	err    error // of the newest try
}

type retired struct {
	upstream config.Upstream
	since    time.Time
}

// watch follows the file until ctx ends. Without a file there is nothing to follow.
func (r *reloader) watch(ctx context.Context) error {
	if r.load == nil {
		<-ctx.Done()
		return nil
	}
	return watch.Files(ctx, []string{r.server.cfg.File}, r.log, func() { _ = r.reload(ctx, false) })
}

// reload takes the configuration if it is another one; all has it read again what it
// names too, such as credentials. Where it has a mistake the last good one stays in
// force. What happens is logged, and told by health.
func (r *reloader) reload(ctx context.Context, all bool) error {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	next, err := r.load()
	if err == nil && (all || !next.Same(r.server.config.Load())) {
		err = r.take(ctx, next)
	}
	r.mu.Lock()
	r.err = err
	r.mu.Unlock()
	if err != nil {
		r.log.Error().Err(err).Str("file", r.server.cfg.File).Msg("the configuration was not taken: the last good one stays in force")
	}
	return err
}

// take puts a configuration in force: first in Envoy, so that no request is led to an
// upstream that it does not know yet.
func (r *reloader) take(ctx context.Context, next *config.Config) error {
	s := r.server
	book, err := gateway.NewRulebook(next)
	if err != nil {
		return err
	}
	upstreams, err := s.upstreams.Prepare(next)
	if err != nil {
		return err
	}
	gone := r.gone(s.config.Load(), next)
	if err := r.tellEnvoy(ctx, next, gone); err != nil {
		return err
	}
	r.retired = gone
	upstreams.Apply()
	s.gateway.Apply(book)
	s.config.Store(next)
	r.mu.Lock()
	r.loaded = time.Now()
	r.mu.Unlock()
	r.log.Info().Str("file", next.File).Int("upstreams", len(next.Upstreams)).Int("models", len(next.Models)).Int("limits", len(next.Limits)).
		Msg("the configuration was read again")
	if fixed := fixedChanges(s.cfg, next); len(fixed) > 0 {
		r.log.Warn().Strs("settings", fixed).Msg("these settings have changed, and take effect when weir starts the next time")
	}
	return nil
}

// gone is what of earlier configurations is kept, for requests on their way.
func (r *reloader) gone(old, next *config.Config) map[string]retired {
	gone := map[string]retired{}
	keep := func(u retired) {
		if _, stays := next.Upstream(u.upstream.Name); !stays && time.Since(u.since) < retire {
			gone[u.upstream.Name] = u
		}
	}
	for _, u := range r.retired {
		keep(u)
	}
	for _, u := range old.Upstreams {
		keep(retired{u, time.Now()})
	}
	return gone
}

// tellEnvoy writes what Envoy reads, if that changes, and waits until it works with it.
// An Envoy that cannot be asked is one that does not run: it reads the files when it
// starts.
func (r *reloader) tellEnvoy(ctx context.Context, next *config.Config, gone map[string]retired) error {
	list := make([]config.Upstream, 0, len(gone))
	for _, name := range slices.Sorted(maps.Keys(gone)) {
		list = append(list, gone[name].upstream)
	}
	cfg := *next
	cfg.Envoy = r.server.cfg.Envoy // what weir was started for
	resources, err := envoy.Dynamic(&cfg, list, envoy.SystemCA())
	if err != nil {
		return err
	}
	if resources.Version() == r.written.Version() {
		return nil
	}
	proxy := envoy.NewAdmin(r.server.sockets.Admin)
	dir := filepath.Dir(r.server.sockets.Admin)
	ctx, cancel := context.WithTimeout(ctx, acceptTimeout)
	defer cancel()
	discovery, err := proxy.Discovery(ctx)
	switch {
	case errors.Is(err, envoy.ErrFixed):
		return err
	case err != nil:
		r.log.Warn().Err(err).Msg("Envoy cannot be asked whether it takes the new routes and upstreams")
		err = resources.Write(dir)
	default:
		if err = resources.Write(dir); err == nil {
			err = discovery.Accepted(ctx, resources.Version())
		}
	}
	if err != nil {
		return errors.Join(err, r.written.Write(dir))
	}
	r.written = resources
	return nil
}

// health tells how old the configuration is, and whether the newest was taken.
func (r *reloader) health() api.ConfigHealth {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := api.ConfigHealth{Status: "ok", AgeSeconds: time.Since(r.loaded).Round(time.Second).Seconds()}
	if r.err != nil {
		h.Status = "stale"
	}
	return h
}

// status tells when the configuration in force was read, and why the newest is not.
func (r *reloader) status() (loaded time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.loaded, r.err
}

// fixedChanges names the settings, by their names in the file, that differ and are
// read at the start only.
func fixedChanges(started, next *config.Config) (names []string) {
	for _, f := range []struct {
		name     string
		old, now any
	}{
		{"listen", started.Listen, next.Listen},
		{"run_dir", started.RunDir, next.RunDir},
		{"metrics", started.MetricsListen, next.MetricsListen},
		{"keys", started.Keys, next.Keys},
		{"tls", started.TLS, next.TLS},
		{"ledger", started.Ledger, next.Ledger},
		{"admin", started.Admin, next.Admin},
		{"envoy", started.Envoy, next.Envoy},
		{"store", started.Redis, next.Redis},
	} {
		if !reflect.DeepEqual(f.old, f.now) {
			names = append(names, f.name)
		}
	}
	return names
}
