package main

import (
	"fmt"
	"net"
	"strings"
)

// announce prints what a user needs to begin: where, with which key, and a
// command to paste.
func (c *upCmd) announce(e *env, site *site, s *server, addr string) {
	scheme := "http"
	if site.cfg.TLS != nil {
		scheme = "https"
	}
	base := scheme + "://" + reachable(addr) + "/v1"
	model, key := "MODEL", site.secret
	if models := s.upstreams.Table().Models(); len(models) > 0 {
		model = models[0].Name
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\nweir is ready.\n\n  URL        %s\n  Model      %s\n", base, model)
	if key != "" {
		fmt.Fprintf(&b, "  Key        %s   (for this run only)\n", key)
	} else {
		key = "YOUR_KEY"
	}
	if s.listeners.metrics != nil {
		fmt.Fprintf(&b, "  Metrics    http://%s/metrics\n", reachable(s.listeners.metrics.Addr().String()))
	}
	if s.listeners.admin != nil {
		addr := reachable(s.listeners.admin.Addr().String())
		token := "with the token of admin.token_file"
		if site.token != "" {
			token = "for this run only, with the token " + site.token
		}
		fmt.Fprintf(&b, "  Admin      http://%s   (%s)\n", addr, token)
		if s.pages != nil {
			fmt.Fprintf(&b, "  Dashboard  http://%s/dashboard/   (with the same)\n", addr)
		}
	}
	fmt.Fprintf(&b, `
Try it:

  curl -N %s/chat/completions \
    -H "Authorization: Bearer %s" \
    -H "Content-Type: application/json" \
    -d '{"model":"%s","stream":true,"messages":[{"role":"user","content":"What is weir?"}]}'

Ctrl-C stops it.

`, base, key, model)
	fmt.Fprint(e.stdout, b.String())
}

// reachable is an address as a client on this machine calls it.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}
