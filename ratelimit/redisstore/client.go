package redisstore

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// connect makes the client of a target. It dials nothing yet.
func (t *target) connect(o *Options) redis.UniversalClient {
	switch t.scheme {
	case "sentinel":
		opts := t.sentinel(o)
		client := redis.NewFailoverClient(opts)
		client.AddHook(dialHook{})
		return client
	case "cluster":
		client := redis.NewClusterClient(t.cluster(o))
		client.OnNewNode(func(node *redis.Client) { node.AddHook(dialHook{}) })
		return client
	}
	client := redis.NewClient(t.single(o))
	client.AddHook(dialHook{})
	return client
}

// Client is the store's client, for others who keep what they share there too. It
// obeys the contexts of its calls, and closes with the store.
func (s *Store) Client() redis.UniversalClient { return s.client }

func (t *target) single(o *Options) *redis.Options {
	network := "tcp"
	if t.scheme == "unix" {
		network = "unix"
	}
	return &redis.Options{
		Network: network, Addr: t.addrs[0],
		Username: t.user, Password: t.password, DB: t.db, TLSConfig: t.serverTLS(t.addrs[0]),
		Protocol: 2, ClientName: "weir", DisableIdentity: true,
		MaxRetries: -1, DialerRetries: 1,
		DialTimeout: dialTimeout, ReadTimeout: o.Silence, WriteTimeout: o.Silence, PoolTimeout: o.Silence,
		ContextTimeoutEnabled: true,
		PoolSize:              o.Connections, PipelinePoolSize: -1, MinIdleConns: 1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

func (t *target) sentinel(o *Options) *redis.FailoverOptions {
	return &redis.FailoverOptions{
		MasterName: t.master, SentinelAddrs: t.addrs,
		Username: t.user, Password: t.password, DB: t.db, TLSConfig: t.tls,
		Protocol: 2, ClientName: "weir", DisableIdentity: true,
		MaxRetries: -1, DialerRetries: 1,
		DialTimeout: dialTimeout, ReadTimeout: o.Silence, WriteTimeout: o.Silence, PoolTimeout: o.Silence,
		ContextTimeoutEnabled: true,
		PoolSize:              o.Connections, PipelinePoolSize: -1, MinIdleConns: 1,
	}
}

func (t *target) cluster(o *Options) *redis.ClusterOptions {
	return &redis.ClusterOptions{
		Addrs: t.addrs, MaxRedirects: 3,
		Username: t.user, Password: t.password, TLSConfig: t.tls,
		Protocol: 2, ClientName: "weir", DisableIdentity: true,
		MaxRetries: -1, DialerRetries: 1,
		DialTimeout: dialTimeout, ReadTimeout: o.Silence, WriteTimeout: o.Silence, PoolTimeout: o.Silence,
		ContextTimeoutEnabled: true,
		PoolSize:              o.Connections, PipelinePoolSize: -1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// serverTLS names the server whose certificate is wanted.
func (t *target) serverTLS(addr string) *tls.Config {
	if t.tls == nil {
		return nil
	}
	cfg := t.tls.Clone()
	if host, _, err := net.SplitHostPort(addr); err == nil {
		cfg.ServerName = host
	}
	return cfg
}

// dialError is that no connection came about: nothing was sent.
type dialError struct{ error }

func (e dialError) Unwrap() error { return e.error }

// dialHook marks the errors of dialing, among them that no Sentinel knows the
// master.
type dialHook struct{}

func (dialHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			return nil, dialError{err}
		}
		return conn, nil
	}
}

func (dialHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (dialHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
