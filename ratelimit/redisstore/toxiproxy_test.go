package redisstore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// toxiproxy is a Toxiproxy, https://github.com/Shopify/toxiproxy, as a process of its own.
type toxiproxy struct {
	*testing.T
	api string // URL
}

// toxic is what a Toxiproxy does to what passes.
type toxic struct {
	Type       string         `json:"type"`
	Stream     string         `json:"stream"`   // upstream: requests; downstream: replies
	Toxicity   float64        `json:"toxicity"` // how likely a connection has it
	Attributes map[string]int `json:"attributes"`
}

// startToxiproxy builds and starts one. It ends with the test.
func startToxiproxy(t *testing.T) *toxiproxy {
	t.Helper()
	program := filepath.Join(t.TempDir(), "toxiproxy")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/Shopify/toxiproxy/v2/cmd/server")
	build.Dir = filepath.Join("..", "..", "tools")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("Toxiproxy cannot be built: %v\n%s", err, out)
	}
	_, port, _ := net.SplitHostPort(freeAddr(t))
	p := &toxiproxy{T: t, api: "http://127.0.0.1:" + port}
	cmd := exec.CommandContext(t.Context(), program, "-host", "127.0.0.1", "-port", port)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(os.Interrupt) }, 5*time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Wait() // t.Context() is over by now
		if t.Failed() {
			t.Logf("Toxiproxy said:\n%.4000s", log.Bytes())
		}
	})
	for end := time.Now().Add(10 * time.Second); p.call("GET", "/version", nil) != nil; {
		if time.Now().After(end) {
			t.Fatal("Toxiproxy did not come up in 10 s")
		}
		time.Sleep(5 * time.Millisecond)
	}
	return p
}

// proxy has it listen on another address for a server, and returns that address.
func (p *toxiproxy) proxy(name, server string) string {
	p.Helper()
	addr := freeAddr(p.T)
	if err := p.call("POST", "/proxies", map[string]any{"name": name, "listen": addr, "upstream": server, "enabled": true}); err != nil {
		p.Fatal(err)
	}
	return addr
}

// set replaces all toxics of all proxies.
func (p *toxiproxy) set(toxics map[string][]toxic) error {
	if err := p.call("POST", "/reset", nil); err != nil {
		return err
	}
	for proxy, list := range toxics {
		for _, one := range list {
			if err := p.call("POST", "/proxies/"+proxy+"/toxics", one); err != nil {
				return err
			}
		}
	}
	return nil
}

// call sends one of the requests that Toxiproxy's README lists.
func (p *toxiproxy) call(method, path string, body any) error {
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
	defer stop()
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, p.api+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Close = true // no goroutine is to be left
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, said)
	}
	return err
}
