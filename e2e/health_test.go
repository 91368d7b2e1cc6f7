package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/weir-gateway/weir/simulator"
)

// TestHealthFollowsUpstreams has upstreams go and come back. Nobody sends a request
// meanwhile: a load balancer would not.
func TestHealthFollowsUpstreams(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r := start(t, fixture{
		upstreams: fmt.Sprintf("  - {name: pool, url: \"http://%s/v1\", keys: {list: [{key: %s, label: k0}], retry: {keys: 1, tries: 1}}}\n", addr, poolKey(0)),
		models:    "  - {name: p, upstreams: [pool]}\n",
	})
	if got := r.post(ask); got.status != http.StatusServiceUnavailable {
		t.Fatalf("status %d, %s", got.status, got.body)
	}
	out, err := r.weir("pool")
	if err != nil || !strings.Contains(out, " 0.0 %") || !strings.Contains(out, "connect, ") || strings.Contains(out, "100.0 %") {
		t.Errorf("after an attempt without a connection: %v\n%s", err, out)
	}
	if top, err := r.weir("top", "-n", "1"); err != nil || !strings.Contains(top, " 0 %") || strings.Contains(top, "100 %") {
		t.Errorf("after an attempt without a connection: %v\n%s", err, top)
	}
	for range 2 {
		r.post(ask)
	}
	out, err = r.weir("pool")
	if err != nil || !strings.Contains(out, "upstream down") {
		t.Errorf("after three attempts without a connection: %v\n%s", err, out)
	}
	if top, err := r.weir("top", "-n", "1"); err != nil || !strings.Contains(top, "DOWN") {
		t.Errorf("after three attempts without a connection: %v\n%s", err, top)
	}
	got := r.do(http.MethodGet, "/health", "")
	if got.status != http.StatusOK || !strings.HasPrefix(got.body, `{"status":"degraded"`) || !strings.Contains(got.body, `{"name":"pool","status":"down","keys":1,"usable":1}`) {
		t.Errorf("health %d %s", got.status, got.body)
	}
	if out, err := r.weir("health"); err != nil || !strings.HasPrefix(out, "degraded\n") || !strings.Contains(out, "upstream pool: down: it does not answer\n") {
		t.Errorf("weir health: %v, %s", err, out)
	}

	if l, err = net.Listen("tcp", addr); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(simulator.New(simulator.Options{
		Models: []simulator.Model{{Name: "p"}}, Keys: map[string]func(int64) string{poolKey(0): fine},
	}))
	if err := server.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
	r.eventually("it is seen without a request", func() bool {
		return strings.Contains(r.do(http.MethodGet, "/health", "").body, `{"name":"pool","status":"ok","keys":1,"usable":1}`)
	})
	if got := r.post(ask); got.status != http.StatusOK {
		t.Errorf("status %d, %s", got.status, got.body)
	}
	if out, err := r.weir("pool"); err != nil || !strings.Contains(out, " 25.0 %") || !strings.Contains(out, "healthy") {
		t.Errorf("a good answer of four: %v\n%s", err, out)
	}
}

// TestPoolTellsTimeouts has an upstream that does not answer in time.
func TestPoolTellsTimeouts(t *testing.T) {
	t.Parallel()
	for name, timeouts := range map[string]string{"first_byte": "first_byte: 300ms", "total": "total: 300ms", "idle": "idle: 300ms"} {
		f := fixture{}
		withPool(t, &f, "      retry: {keys: 2, tries: 2}\n", always("fail=hang:0"), always("fail=hang:0"))
		f.upstreams += "    timeouts: {" + timeouts + "}\n"
		r := start(t, f)
		body := strings.Replace(ask, "{", `{"stream":true,`, 1)
		if got := r.post(body); got.status != http.StatusGatewayTimeout {
			t.Errorf("%s: status %d, %s", name, got.status, got.body)
		}
		out, err := r.weir("pool")
		if err != nil || !strings.Contains(out, "timeout, ") || strings.Contains(out, "disconnect") || strings.Contains(out, "100.0 %") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		t.Log("\n" + out)
	}
}
