package upstream

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
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

// Directory follows the servers of a configuration, which may be replaced while it
// runs.
type Directory struct {
	opts    Options
	state   atomic.Pointer[state]
	mu      sync.Mutex    // serialises changes of state
	changed chan struct{} // tells Run that there are other servers
}

// state is what is in force. It is immutable.
type state struct {
	cfg     *config.Config
	servers []*Server
	checks  []*checker // of servers, in their order
	table   *Table
}

// New makes the directory of a configuration, and reads the credentials that it
// keeps in files.
func New(cfg *config.Config, opts Options) (*Directory, error) {
	d := &Directory{opts: opts, changed: make(chan struct{}, 1)}
	next, err := d.Prepare(cfg)
	if err != nil {
		return nil, err
	}
	next.Apply()
	return d, nil
}

// Next is a configuration that is ready to be taken.
type Next struct {
	d     *Directory
	state *state
	pools []pooled
}

// pooled are the keys that a pool is given when the configuration is taken.
type pooled struct {
	pool *pool.Pool
	keys []pool.Key
}

// Prepare makes ready for another configuration, and reads the credentials that it
// keeps in files. An upstream of which nothing changes goes on as it is, and so do
// the keys that stay in a pool; nothing changes before Apply.
func (d *Directory) Prepare(cfg *config.Config) (*Next, error) {
	n := &Next{d: d, state: &state{cfg: cfg}}
	old := d.state.Load()
	for _, u := range cfg.Upstreams {
		i := old.index(u.Name)
		if i >= 0 && reflect.DeepEqual(old.servers[i].Upstream, u) && u.KeyFile == "" {
			n.state.servers, n.state.checks = append(n.state.servers, old.servers[i]), append(n.state.checks, old.checks[i])
			continue
		}
		var was *Server
		if i >= 0 {
			was = old.servers[i]
		}
		if err := n.add(u, was); err != nil {
			return nil, fmt.Errorf("upstream %q: %w", u.Name, err)
		}
	}
	return n, nil
}

// index is where the server of that name stands, -1 if there is none.
func (s *state) index(name string) int {
	if s == nil {
		return -1
	}
	return slices.IndexFunc(s.servers, func(s *Server) bool { return s.Name == name })
}

// add makes a server, which takes over what is known of the one that it replaces,
// nil if there is none.
func (n *Next) add(u config.Upstream, was *Server) error {
	s, err := newServer(u)
	if err != nil {
		return err
	}
	if u.Pool != nil {
		keys, err := poolKeys(u.Pool)
		if err != nil {
			return err
		}
		if was != nil && was.Pool != nil && was.Upstream.Pool.Strategy == u.Pool.Strategy {
			s.Pool = was.Pool
			n.pools = append(n.pools, pooled{s.Pool, keys})
		} else {
			s.Pool = newPool(u, keys, &n.d.opts)
		}
	}
	if was != nil && was.URL.String() == u.URL.String() {
		s.found.Store(was.found.Load())
	}
	check, err := newChecker(s, n.d.opts.SystemCA)
	if err != nil {
		return err
	}
	s.changed = n.d.told
	n.state.servers, n.state.checks = append(n.state.servers, s), append(n.state.checks, check)
	return nil
}

// Apply takes the configuration. Requests that began before go on with what they
// know.
func (n *Next) Apply() {
	d := n.d
	d.mu.Lock()
	defer d.mu.Unlock()
	n.state.table = newTable(n.state.cfg, n.state.servers)
	d.state.Store(n.state)
	for _, p := range n.pools {
		p.pool.Set(p.keys)
	}
	select {
	case d.changed <- struct{}{}:
	default: // it has been told
	}
}

// newPool is the pool of an upstream with its keys.
func newPool(u config.Upstream, keys []pool.Key, opts *Options) *pool.Pool {
	o := pool.Options{
		Upstream: u.Name, Strategy: strategies[u.Pool.Strategy], Share: opts.Share, ShareFailed: opts.ShareFailed,
	}
	if opts.KeyChanged != nil {
		o.Changed = func(c pool.Change) { opts.KeyChanged(u.Name, c) }
	}
	return pool.New(o, keys)
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
			ID: pool.KeyID(k.Key), Secret: k.Key, Weight: max(1, k.Weight), Label: k.Label,
		}
	}
	return keys, nil
}

// Table is the table in force.
func (d *Directory) Table() *Table { return d.state.Load().table }

// Servers are the upstreams, in the order of the configuration.
func (d *Directory) Servers() []*Server { return d.state.Load().servers }

// Server finds an upstream by its name.
func (d *Directory) Server(name string) (*Server, bool) {
	st := d.state.Load()
	if i := st.index(name); i >= 0 {
		return st.servers[i], true
	}
	return nil, false
}

// Run follows the servers until ctx ends: it asks those that do not answer whether
// they are back, those that list models what they list, and tries keys again that
// were refused.
func (d *Directory) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	type follower struct {
		stop context.CancelFunc
		done chan struct{}
	}
	running := map[*Server]follower{}
	for {
		st := d.state.Load()
		for s, f := range running {
			if !slices.Contains(st.servers, s) {
				f.stop()
				<-f.done // a pool may have another server now
				delete(running, s)
			}
		}
		for i, s := range st.servers {
			if _, ok := running[s]; ok {
				continue
			}
			one, stop := context.WithCancel(ctx)
			f := follower{stop, make(chan struct{})}
			running[s] = f
			group.Go(func() error {
				defer close(f.done)
				return d.follow(one, s, st.checks[i])
			})
		}
		select {
		case <-ctx.Done():
			for _, f := range running {
				f.stop()
			}
			return group.Wait()
		case <-d.changed:
		}
	}
}

// follow follows one server until ctx ends.
func (d *Directory) follow(ctx context.Context, s *Server, check *checker) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return check.follow(ctx) })
	if s.Offer == config.Discover {
		group.Go(func() error { return d.discover(ctx, check) })
	}
	if s.Pool != nil {
		group.Go(func() error { return s.Pool.Run(ctx, check.probe) })
		if s.Upstream.Pool.File != "" {
			group.Go(func() error {
				return watch.Files(ctx, []string{s.Upstream.Pool.File}, d.opts.Log, func() { _ = d.reload(s) })
			})
		}
	}
	return group.Wait()
}

// Reload reads the files of keys again. Where one has a mistake its last good
// state stays in force.
func (d *Directory) Reload() error {
	var errs []error
	for _, s := range d.Servers() {
		if s.Pool != nil && s.Upstream.Pool.File != "" {
			errs = append(errs, d.reload(s))
		}
	}
	return errors.Join(errs...)
}

func (d *Directory) reload(s *Server) error {
	keys, err := pool.ReadFile(s.Upstream.Pool.File)
	s.setStale(err)
	if err != nil {
		d.opts.Log.Error().Err(err).Str("upstream", s.Name).Int("keys", s.Pool.Len()).Msg("the pool's keys were not taken: the last good ones stay in force")
		return fmt.Errorf("upstream %q: %w", s.Name, err)
	}
	s.Pool.Set(keys)
	d.opts.Log.Info().Str("upstream", s.Name).Int("keys", len(keys)).Msg("the pool's keys were read")
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
			d.opts.Log.Debug().Err(err).Str("upstream", c.server.Name).Msg("asking an upstream for its models")
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
	d.mu.Lock() // two servers may answer at a time
	now := *d.state.Load()
	now.table = newTable(now.cfg, now.servers)
	d.state.Store(&now)
	d.mu.Unlock()
	d.opts.Log.Info().Str("upstream", s.Name).Int("models", len(list)).Msg("the upstream's models were read")
}

func (d *Directory) told(s *Server) {
	if s.Down() {
		d.opts.Log.Warn().Str("upstream", s.Name).Msg("the upstream does not answer: requests go elsewhere where they can")
		return
	}
	d.opts.Log.Info().Str("upstream", s.Name).Msg("the upstream answers again")
}
