package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/weir-gateway/weir/api"
	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/dashboard"
	"github.com/weir-gateway/weir/gateway"
	"github.com/weir-gateway/weir/ratelimit/failover"
	"github.com/weir-gateway/weir/ratelimit/memstore"
	"github.com/weir-gateway/weir/ratelimit/redisstore"
	"github.com/weir-gateway/weir/telemetry"
	"github.com/weir-gateway/weir/upstream/pool"
	"github.com/weir-gateway/weir/upstream/pool/redispool"
)

// store is where limits are counted, and what keeps it going.
type store struct {
	gateway.Limiter
	run    func(ctx context.Context) error // until ctx ends
	close  func()
	health func() api.StoreHealth
	share  pool.Share // between the pools of all replicas; nil: there is one
	waits  bool       // for an answer from elsewhere
}

// openStore opens the store of a configuration: Redis, or memory.
func openStore(cfg *config.Config, instance uint64, metrics *telemetry.Metrics, log zerolog.Logger) (*store, error) {
	if cfg.Redis == nil {
		return memoryStore(metrics), nil
	}
	return redisStore(cfg.Redis, instance, metrics, log)
}

func memoryStore(metrics *telemetry.Metrics) *store {
	s := memstore.New(memstore.Options{})
	metrics.Gauge("weir_leases_held", "Slots of concurrency limits that are taken.", func() float64 { return float64(s.Stats().Leases) })
	return &store{
		Limiter: gateway.Direct(s),
		run: func(ctx context.Context) error {
			<-ctx.Done()
			return nil
		},
		close:  func() {},
		health: func() api.StoreHealth { return api.StoreHealth{Status: "ok", Kind: "memory", Replicas: 1} },
	}
}

func redisStore(cfg *config.Redis, instance uint64, metrics *telemetry.Metrics, log zerolog.Logger) (*store, error) {
	password, err := redisPassword(cfg)
	if err != nil {
		return nil, err
	}
	redis.SetLogger(quiet{}) // what fails is told by the calls that fail
	shared, err := redisstore.New(redisstore.Options{
		URL: cfg.URL.Reveal(), Password: password, CAFile: cfg.CAFile,
		// failover notices sooner when Redis is silent, and knows why.
		Timeout: 2 * time.Second, Silence: cfg.Timeout + 500*time.Millisecond,
	})
	if err != nil {
		return nil, fmt.Errorf("store.redis: %w", err)
	}
	s := failover.New(failover.Options{Store: shared, Timeout: cfg.Timeout, Instance: instance, Events: storeEvents(metrics, log)})
	registerStore(metrics, s)
	return &store{
		Limiter: s,
		run:     s.Run,
		share:   redispool.New(shared.Client()),
		waits:   true,
		close:   func() { closeRedis(s, shared, log) },
		health:  func() api.StoreHealth { return storeHealth(s.Status()) },
	}, nil
}

// seen is how the dashboard shows it.
func (s *store) seen() dashboard.Store {
	h := s.health()
	return dashboard.Store{
		Kind: h.Kind, Away: h.Status == "away", For: time.Duration(h.AwaySeconds * float64(time.Second)), Owed: h.Owed, Replicas: h.Replicas,
	}
}

// quiet is a logger for go-redis, which has one for the whole process.
type quiet struct{}

// Printf says nothing.
func (quiet) Printf(context.Context, string, ...any) {}

// redisPassword is the content of the password file; "" leaves the URL's.
func redisPassword(cfg *config.Redis) (string, error) {
	if cfg.PasswordFile == "" {
		return "", nil
	}
	text, err := os.ReadFile(cfg.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("store.redis.password_file: %w", err)
	}
	return string(bytes.TrimSpace(text)), nil
}

// storeEvents tells log and metrics how the store does.
func storeEvents(metrics *telemetry.Metrics, log zerolog.Logger) failover.Events {
	return failover.Events{
		Failed: func(op string, err error) {
			metrics.StoreFailed(op)
			log.Debug().Err(err).Str("op", op).Msg("a call of the limit store failed")
		},
		Opened: func(err error) {
			log.Warn().Err(err).Msg("the limit store is away: limits do what their on_store_failure says until it is back")
		},
		Recovered: func(o failover.Outage) {
			log.Info().Dur("lasted_ms", o.Lasted).Int("exchanges_told", o.Debts).Msg("the limit store is back, and knows what happened without it")
		},
		Dropped: func(n int) {
			metrics.StoreDropped(n)
			log.Warn().Int("exchanges", n).Msg("too many exchanges are owed to the limit store: the oldest are forgotten, and will not count")
		},
	}
}

func registerStore(metrics *telemetry.Metrics, s *failover.Store) {
	metrics.Gauge("weir_store_away", "1 while the limit store is not asked.", func() float64 {
		if s.Status().Away {
			return 1
		}
		return 0
	})
	metrics.Gauge("weir_store_owed_exchanges", "Exchanges that the limit store is to be told of.", func() float64 { return float64(s.Status().Debts) })
	metrics.Gauge("weir_store_replicas", "Replicas that share the limit store.", func() float64 { return float64(s.Status().Replicas) })
	metrics.Counter("weir_exchanges_decided_alone_total", "Exchanges that were decided without the limit store.", func() float64 { return float64(s.Status().Alone) })
}

func storeHealth(s failover.Status) api.StoreHealth {
	h := api.StoreHealth{Status: "ok", Kind: "redis", Owed: s.Debts, Replicas: s.Replicas}
	if s.Away {
		h.Status, h.AwaySeconds = "away", time.Since(s.Since).Seconds()
	}
	return h
}

// closeRedis tells Redis what it is owed, as far as that can be done soon.
func closeRedis(s *failover.Store, shared *redisstore.Store, log zerolog.Logger) {
	const patience = 3 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if n := s.Flush(ctx); n > 0 {
		log.Warn().Int("exchanges", n).Msg("the limit store could not be told of all exchanges: they will not count")
	}
	if err := shared.Close(); err != nil {
		log.Debug().Err(err).Msg("closing the connections to Redis")
	}
}
