package main

import (
	"github.com/rs/zerolog"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/telemetry"
	"github.com/weir-gateway/weir/upstream"
	"github.com/weir-gateway/weir/upstream/pool"
)

// openUpstreams reads the upstreams' keys, and has log and metrics told of how
// these do.
func openUpstreams(cfg *config.Config, share pool.Share, metrics *telemetry.Metrics, log zerolog.Logger) (*upstream.Directory, error) {
	for _, u := range cfg.Upstreams {
		if u.Pool == nil || u.Pool.File == "" {
			continue
		}
		if err := pool.CheckMode(u.Pool.File); err != nil {
			log.Warn().Str("upstream", u.Name).Msg(err.Error())
		}
	}
	d, err := upstream.New(cfg, upstream.Options{
		SystemCA: envoy.SystemCA(), Share: share, Log: log,
		KeyChanged: func(name string, c pool.Change) {
			metrics.KeyChanged(name, c.To.String())
			level := zerolog.InfoLevel
			if c.To == pool.Quarantined { // somebody has to act
				level = zerolog.ErrorLevel
			}
			log.WithLevel(level).Str("upstream", name).Str("key", c.KeyID).Str("label", c.Label).Stringer("from", c.From).
				Stringer("to", c.To).Str("why", string(c.Why)).Bool("told_by_replica", c.Remote).Msg("an upstream key changed")
		},
		ShareFailed: func(err error) {
			if err == nil {
				log.Info().Msg("the states of upstream keys are shared with other replicas again")
				return
			}
			log.Warn().Err(err).Msg("the states of upstream keys are not shared with other replicas")
		},
	})
	if err != nil {
		return nil, err
	}
	registerUpstreams(metrics, d)
	return d, nil
}

func registerUpstreams(metrics *telemetry.Metrics, d *upstream.Directory) {
	metrics.UpstreamGauge("weir_upstream_up", "1 while the upstream answers.", func(tell func(float64, string, ...string)) {
		for _, s := range d.Servers() {
			up := 1.0
			if s.Down() {
				up = 0
			}
			tell(up, s.Name)
		}
	})
	metrics.UpstreamGauge("weir_upstream_keys_stale", "1 while the newest file of the upstream's keys has a mistake and older keys are in force.", func(tell func(float64, string, ...string)) {
		for _, s := range d.Servers() {
			if s.Pool == nil {
				continue
			}
			stale := 0.0
			if s.Stale() != nil {
				stale = 1
			}
			tell(stale, s.Name)
		}
	})
	metrics.UpstreamGauge("weir_upstream_keys_usable", "Keys of the upstream's pool that can be used now.", func(tell func(float64, string, ...string)) {
		for _, s := range d.Servers() {
			if s.Pool != nil {
				tell(float64(s.Pool.Usable()), s.Name)
			}
		}
	})
	metrics.UpstreamGauge("weir_upstream_keys", "Keys of the upstream's pool, by their state: healthy, cooling, quarantined or disabled.", func(tell func(float64, string, ...string)) {
		for _, s := range d.Servers() {
			if s.Pool == nil {
				continue
			}
			count := s.Pool.Count()
			for _, state := range pool.States() {
				tell(float64(count[state]), s.Name, state.String())
			}
		}
	}, "state")
}
