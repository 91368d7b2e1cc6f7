package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/upstream/pool"
	"github.com/weir-gateway/weir/watch"
)

// Options are what a Directory works with.
type Options struct {
	// SystemCA is the CA bundle for https servers that name none; "" is Go's.
	SystemCA string
	// Share tells other replicas how keys do, and learns of it from them; nil:
	// there are none.
	Share pool.Share
	// KeyChanged is told of every change of a key's state; nil: nobody is.
	KeyChanged func(upstream string, c pool.Change)
	// ShareFailed is told when replicas cannot be told; nil: nobody is.
	ShareFailed func(error)
	Log         zerolog.Logger
}

// Directory follows the servers of a configuration.
type Directory struct {
	cfg     *config.Config
	servers []*Server
	checks  []*checker // of servers, in their order
	table   atomic.Pointer[Table]
	log     zerolog.Logger
}

// New makes the directory of a configuration, and reads the credentials that it
// keeps in files.
func New(cfg *config.Config, opts Options) (*Directory, error) {
	d := &Directory{cfg: cfg, log: opts.Log}
	for _, u := range cfg.Upstreams {
		s, err := newServer(u)
		if err == nil && u.Pool != nil {
			s.Pool, err = newPool(u, &opts)
		}
		if err != nil {
			return nil, fmt.Errorf("upstream %q: %w", u.Name, err)
		}
		check, err := newChecker(s, opts.SystemCA)
		if err != nil {
			return nil, fmt.Errorf("upstream %q: %w", u.Name, err)
		}
		s.changed = d.told
		d.servers, d.checks = append(d.servers, s), append(d.checks, check)
	}
	d.table.Store(newTable(cfg, d.servers))
	return d, nil
}

// newPool is the pool of an upstream with its keys.
func newPool(u config.Upstream, opts *Options) (*pool.Pool, error) {
	keys, err := poolKeys(u.Pool)
	if err != nil {
		return nil, err
	}
	o := pool.Options{
		Upstream: u.Name, Strategy: strategies[u.Pool.Strategy], Share: opts.Share, ShareFailed: opts.ShareFailed,
	}
	if opts.KeyChanged != nil {
		o.Changed = func(c pool.Change) { opts.KeyChanged(u.Name, c) }
	}
	return pool.New(o, keys), nil
}

var strategies = map[config.Strategy]pool.Strategy{
	config.RoundRobin: pool.RoundRobin, config.LeastInFlight: pool.LeastInFlight, config.Weighted: pool.Weighted,
}

func poolKeys(p *config.Pool) ([]pool.Key, error) {
	if p.File != "" {
		return pool.ReadFile(p.File)
	}
	keys := make([]pool.Key, len(p.Keys))
	for i, k := range p.Keys {
		keys[i] = pool.Key{
			ID: pool.KeyID(k.Key), Secret: k.Key, Weight: max(1, k.Weight), Label: cmp.Or(k.Label, fmt.Sprintf("key-%d", i+1)),
		}
	}
	return keys, nil
}

// Table is the table in force.
func (d *Directory) Table() *Table { return d.table.Load() }

// Servers are the upstreams, in the order of the configuration.
func (d *Directory) Servers() []*Server { return d.servers }

// Server finds an upstream by its name.
func (d *Directory) Server(name string) (*Server, bool) {
	i := slices.IndexFunc(d.servers, func(s *Server) bool { return s.Name == name })
	if i < 0 {
		return nil, false
	}
	return d.servers[i], true
}

// Run follows the servers until ctx ends: it asks those that do not answer whether
// they are back, those that list models what they list, and tries keys again that
// were refused.
func (d *Directory) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for i, s := range d.servers {
		check := d.checks[i]
		group.Go(func() error { return check.follow(ctx) })
		if s.Offer == config.Discover {
			group.Go(func() error { return d.discover(ctx, check) })
		}
		if s.Pool == nil {
			continue
		}
		group.Go(func() error { return s.Pool.Run(ctx, check.probe) })
		if s.Upstream.Pool.File != "" {
			group.Go(func() error {
				return watch.Files(ctx, []string{s.Upstream.Pool.File}, d.log, func() { _ = d.reload(s) })
			})
		}
	}
	return group.Wait()
}

// Reload reads the files of keys again. Where one has a mistake its last good
// state stays in force.
func (d *Directory) Reload() error {
	var errs []error
	for _, s := range d.servers {
		if s.Pool != nil && s.Upstream.Pool.File != "" {
			errs = append(errs, d.reload(s))
		}
	}
	return errors.Join(errs...)
}

func (d *Directory) reload(s *Server) error {
	keys, err := pool.ReadFile(s.Upstream.Pool.File)
	if err != nil {
		d.log.Error().Err(err).Str("upstream", s.Name).Int("keys", s.Pool.Len()).Msg("the pool's keys were not taken: the last good ones stay in force")
		return fmt.Errorf("upstream %q: %w", s.Name, err)
	}
	s.Pool.Set(keys)
	d.log.Info().Str("upstream", s.Name).Int("keys", len(keys)).Msg("the pool's keys were read")
	return nil
}

const (
	discoverEvery = time.Minute
	discoverAgain = 2 * time.Second // while a server has not answered yet
)

// discover asks a server for its models until ctx ends.
func (d *Directory) discover(ctx context.Context, c *checker) error {
	for {
		pause := discoverEvery
		switch list, err := c.models(ctx); {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			d.log.Debug().Err(err).Str("upstream", c.server.Name).Msg("asking an upstream for its models")
			pause = discoverAgain
		default:
			d.learn(c.server, list)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(jittered(pause)):
		}
	}
}

// learn takes what a server lists.
func (d *Directory) learn(s *Server, list []config.Model) {
	if old := s.found.Load(); old != nil && slices.EqualFunc(*old, list, func(a, b config.Model) bool {
		return a.Name == b.Name && a.Context == b.Context
	}) {
		return
	}
	s.found.Store(&list)
	for { // two servers may answer at a time
		old := d.table.Load()
		if d.table.CompareAndSwap(old, newTable(d.cfg, d.servers)) {
			break
		}
	}
	d.log.Info().Str("upstream", s.Name).Int("models", len(list)).Msg("the upstream's models were read")
}

func (d *Directory) told(s *Server) {
	if s.Down() {
		d.log.Warn().Str("upstream", s.Name).Msg("the upstream does not answer: requests go elsewhere where they can")
		return
	}
	d.log.Info().Str("upstream", s.Name).Msg("the upstream answers again")
}
