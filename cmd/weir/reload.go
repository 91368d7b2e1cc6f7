package main

import (
	"context"
	"errors"
	"path/filepath"
	"reflect"
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

	mu      sync.Mutex // serialises reloads, and guards what follows
	loaded  time.Time
	err     error // of the newest try
	retired map[string]retired
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
	return watch.Files(ctx, []string{r.server.cfg.File}, r.log, func() { _ = r.reload(ctx) })
}

// reload takes the configuration if it is another one. Where it has a mistake the
// last good one stays in force. What happens is logged.
func (r *reloader) reload(ctx context.Context) error {
	s := r.server
	if r.load == nil {
		return errors.New("there is no configuration file to read again: weir runs its built-in configuration")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	next, err := r.load()
	if err == nil {
		if reflect.DeepEqual(next, r.current()) {
			r.err = nil
			return nil
		}
		err = r.take(ctx, next)
	}
	r.err = err
	if err != nil {
		r.log.Error().Err(err).Str("file", s.cfg.File).Msg("the configuration was not taken: the last good one stays in force")
	}
	return err
}

func (r *reloader) current() *config.Config { return r.server.config.Load() }

// take puts a configuration in force: first in Envoy, so that no request is led to an
// upstream that it does not know yet.
func (r *reloader) take(ctx context.Context, next *config.Config) error {
	s := r.server
	old := r.current()
	book, err := gateway.NewRulebook(next)
	if err != nil {
		return err
	}
	upstreams, err := s.upstreams.Prepare(next)
	if err != nil {
		return err
	}
	gone := r.retire(old, next)
	if err := r.tellEnvoy(ctx, next, gone); err != nil {
		return err
	}
	upstreams.Apply()
	s.gateway.Apply(book)
	s.config.Store(next)
	r.loaded = time.Now()
	r.log.Info().Str("file", next.File).Int("upstreams", len(next.Upstreams)).Int("models", len(next.Models)).Int("limits", len(next.Limits)).
		Msg("the configuration was read again")
	if fixed := fixedChanges(s.cfg, next); len(fixed) > 0 {
		r.log.Warn().Strs("settings", fixed).Msg("these settings have changed, and take effect when weir starts the next time")
	}
	return nil
}

// retire is what is kept of earlier configurations, for requests on their way.
func (r *reloader) retire(old, next *config.Config) []config.Upstream {
	if r.retired == nil {
		r.retired = map[string]retired{}
	}
	for _, u := range old.Upstreams {
		r.retired[u.Name] = retired{u, time.Now()}
	}
	var list []config.Upstream
	for name, u := range r.retired {
		_, stays := next.Upstream(name)
		if stays || time.Since(u.since) > retire {
			delete(r.retired, name)
			continue
		}
		list = append(list, u.upstream)
	}
	return list
}

// tellEnvoy writes what Envoy reads, and waits until it works with it. An Envoy that
// cannot be asked is one that does not run: it reads the files when it starts.
func (r *reloader) tellEnvoy(ctx context.Context, cfg *config.Config, gone []config.Upstream) error {
	resources, err := envoy.Dynamic(cfg, gone, envoy.SystemCA())
	if err != nil {
		return err
	}
	before, err := envoy.Dynamic(r.current(), nil, envoy.SystemCA())
	if err != nil {
		return err
	}
	proxy := envoy.NewAdmin(r.server.sockets.Admin)
	dir := filepath.Dir(r.server.sockets.Admin)
	discovery, err := proxy.Discovery(ctx)
	if err != nil {
		r.log.Warn().Err(err).Msg("Envoy cannot be asked whether it takes the new routes and upstreams")
		return resources.Write(dir)
	}
	ctx, cancel := context.WithTimeout(ctx, acceptTimeout)
	defer cancel()
	if err := resources.Write(dir); err != nil {
		return err
	}
	if err := discovery.Accepted(ctx, resources.Version()); err != nil {
		return errors.Join(err, before.Write(dir))
	}
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
		{"envoy", started.Envoy, next.Envoy},
		{"store", started.Redis, next.Redis},
	} {
		if !reflect.DeepEqual(f.old, f.now) {
			names = append(names, f.name)
		}
	}
	return names
}
