package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/ratelimit/redistest"
)

// balancerYAML is an Envoy that sends requests by turns to those replicas whose
// /health is good, and repeats none.
const balancerYAML = `static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: %s}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: balancer
          route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: replicas, timeout: 0s}}]}]}
          http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
  clusters:
  - name: replicas
    type: STATIC
    common_lb_config: {healthy_panic_threshold: {value: 0}}
    health_checks:
    - {timeout: 1s, interval: 0.2s, unhealthy_interval: 0.2s, no_traffic_interval: 0.2s, unhealthy_threshold: 2, healthy_threshold: 1, http_health_check: {path: /health}}
    load_assignment: {cluster_name: replicas, endpoints: [{lb_endpoints: [%s]}]}
`

// balance starts a load balancer before replicas, and returns its URL.
func balance(t *testing.T, replicas ...string) string {
	t.Helper()
	var ends []string
	for _, addr := range replicas {
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, "{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: "+port+"}}}}")
	}
	listen := freePort(t)
	_, port, err := net.SplitHostPort(listen)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "balancer.yaml")
	writeFile(t, file, fmt.Sprintf(balancerYAML, port, strings.Join(ends, ", ")))
	found, err := envoy.Find(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	proxy := exec.Command(found, "-c", file, "-l", "critical", "--use-dynamic-base-id", "--concurrency", "1")
	proxy.Stderr = os.Stderr
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = proxy.Process.Kill()
		_ = proxy.Wait()
	})
	return "http://" + listen
}

// TestRollingRestart restarts two replicas behind a load balancer, one after the other,
// while clients ask, and no request fails.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	listen := []string{freePort(t), freePort(t)}
	f := fixture{
		redis: redis.URL(), patience: "200ms",
		limits: "  - {name: slots, per: [key], concurrency: 1000}\n",
	}
	replica := func(i int) *rig {
		f.args = []string{"--listen", listen[i], "--notice", "2s"}
		r := start(t, f)
		if f.peer == nil {
			f.peer = r
		}
		return r
	}
	replicas := []*rig{replica(0), replica(1)}
	first, sim := replicas[0], replicas[0].sim
	url := balance(t, listen...)
	ask := func(body string, headers ...string) (reply, error) {
		resp, err := first.sendTo(t.Context(), url, http.MethodPost, "/v1/chat/completions", body, headers...)
		if err != nil {
			return reply{}, err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return reply{resp.StatusCode, resp.Header, string(text)}, err
	}
	replicas[0].eventually("the balancer knows the replicas", func() bool {
		a, err := ask(chat())
		return err == nil && a.status == http.StatusOK
	})
	begun := sim.Ledger().Len()

	ctx, done := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var answered atomic.Int64
	for client := range 16 {
		clients.Go(func() {
			for i := client; ctx.Err() == nil; i++ {
				body, end, script := chat(), "}", "tokens=1"
				switch {
				case client%2 == 0:
					body, end, script = chat(`"stream":true`), "data: [DONE]\n\n", "tokens=20,pace=40ms"
				case i%20 == client: // now many connections are needed, now few
					time.Sleep(300 * time.Millisecond)
				}
				a, err := ask(body, "x-simulate", script)
				if err != nil || a.status != http.StatusOK || !strings.HasSuffix(a.body, end) {
					t.Errorf("status %d, %v, %.200q", a.status, err, a.body)
				}
				answered.Add(1)
			}
		})
	}
	for i := range replicas {
		time.Sleep(time.Second)
		before := answered.Load()
		if err := replicas[i].Stop(); err != nil {
			t.Error(err)
		}
		if answered.Load() == before {
			t.Error("nothing was asked meanwhile")
		}
		replicas[i] = replica(i)
		replicas[i].eventually("the balancer sends it requests again", func() bool { return len(replicas[i].records()) > 0 })
	}
	done()
	clients.Wait()
	t.Logf("%d requests were answered", answered.Load())
	if n := int64(sim.Ledger().Len() - begun); n != answered.Load() {
		t.Errorf("%d requests reached the upstream, %d were answered", n, answered.Load())
	}
	replicas[0].eventually("all slots are free", func() bool { return replicas[0].used("slots") == 0 })
}
