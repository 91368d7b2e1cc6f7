package main

import (
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"github.com/weir-gateway/weir/config"
)

// unsafe are sentences about what works but should not be so: secrets that others can
// read, on this machine or on the network.
func unsafe(cfg *config.Config) (list []string) {
	list = append(readable(cfg), unsafeUpstreams(cfg.Upstreams)...)
	if cfg.TLS == nil && cfg.Envoy.TrustedProxies == 0 && away(cfg.Listen) {
		list = append(list, fmt.Sprintf("listen: %s takes keys in the clear from other machines: set tls, or end TLS in front and say so with envoy: {trusted_proxies: 1}", cfg.Listen))
	}
	if a := cfg.Admin.Listen; away(a) {
		list = append(list, fmt.Sprintf("admin.listen: %s takes the token in the clear from other machines: listen at 127.0.0.1, and reach it through SSH or a proxy that ends TLS", a))
	}
	if cfg.Redis != nil {
		list = append(list, unsafeRedis(cfg.Redis)...)
	}
	return list
}

// readable tells of files with secrets that every user of this machine can read. Key
// files of clients are looked at by package keyring.
func readable(cfg *config.Config) (list []string) {
	files := []string{cfg.Keys.PepperFile, cfg.Admin.TokenFile}
	for _, u := range cfg.Upstreams {
		files = append(files, u.KeyFile)
		if u.Pool != nil {
			files = append(files, u.Pool.File)
		}
	}
	if cfg.Redis != nil {
		files = append(files, cfg.Redis.PasswordFile)
	}
	if cfg.TLS != nil {
		files = append(files, cfg.TLS.KeyFile)
	}
	slices.Sort(files)
	const others = 0o004
	for _, file := range slices.Compact(files) {
		if info, err := os.Stat(file); file != "" && err == nil && info.Mode().Perm()&others != 0 {
			list = append(list, fmt.Sprintf("%s holds a secret and can be read by everybody on this machine: chmod o-r %s", file, file))
		}
	}
	return list
}

func unsafeUpstreams(upstreams []config.Upstream) (list []string) {
	for _, u := range upstreams {
		keyed := u.Key != "" || u.KeyFile != "" || u.Pool != nil
		if keyed && u.URL.Scheme == "http" && away(u.URL.Host) {
			list = append(list, fmt.Sprintf("upstreams: the keys of %s go over the network in the clear: use https, or a network that nobody else is in", u.Name))
		}
	}
	return list
}

// unsafeRedis does not show the URL, which may hold a password.
func unsafeRedis(r *config.Redis) []string {
	u, err := url.Parse(r.URL.Reveal())
	if err != nil || u.Scheme == "unix" || u.Scheme == "rediss" || r.CAFile != "" {
		return nil
	}
	for host := range strings.SplitSeq(u.Host, ",") {
		if away(host) {
			return []string{"store.redis.url: Redis is on another machine, and its password and the ids of keys go there in the clear: use rediss://, or a network that nobody else is in"}
		}
	}
	return nil
}

// away tells whether host or host:port is, or can be reached from, another machine; "" is
// nothing.
func away(host string) bool {
	if u, err := url.Parse("//" + host); err == nil {
		host = u.Hostname()
	}
	addr, err := netip.ParseAddr(host)
	return host != "" && host != "localhost" && (err != nil || !addr.IsLoopback())
}

// warnings is a log that hands its warnings to f.
func warnings(f func(string)) zerolog.Logger {
	return zerolog.New(io.Discard).Hook(zerolog.HookFunc(func(_ *zerolog.Event, level zerolog.Level, message string) {
		if level == zerolog.WarnLevel {
			f(message)
		}
	}))
}
