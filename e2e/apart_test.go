package e2e

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/weir-gateway/weir/e2e/site"
	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/simulator"
)

// apart is a site whose weir and Envoy run apart, as in a deployment: weir serve, and
// an Envoy with the bootstrap that weir envoy prints.
type apart struct {
	*rig
	weir *exec.Cmd
}

// startApart runs one for the length of a test.
func startApart(t *testing.T, f fixture) *apart {
	t.Helper()
	script, err := simulator.ParseScript(f.model)
	if err != nil {
		t.Fatal(err)
	}
	sim := simulator.New(simulator.Options{Models: []simulator.Model{{Name: "m", Script: script}}, Key: upstreamSecret})
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	dir := shortDir(t)
	f.runDir = dir
	listen := freePort(t)
	writeFile(t, filepath.Join(dir, "weir.yaml"), strings.Replace(weirYAML(f, server.URL), "127.0.0.1:0", listen, 1))
	writeFile(t, filepath.Join(dir, "keys.yaml"), keysYAML(f))
	a := &apart{rig: &rig{t: t, Site: &site.Site{URL: "http://" + listen, Dir: dir}, sim: sim, runDir: dir}}
	a.serve()
	t.Cleanup(func() {
		_ = a.weir.Process.Signal(syscall.SIGTERM)
		if err := a.weir.Wait(); err != nil {
			t.Errorf("weir serve: %v", err)
		}
	})
	bootstrap := exec.CommandContext(t.Context(), binary, "envoy")
	bootstrap.Dir = dir
	text, err := bootstrap.Output()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "printed.yaml") // not that of weir serve, which it may write at this moment
	writeFile(t, file, string(text))
	envoyBinary, err := envoy.Find(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	proxy := exec.Command(envoyBinary, "-c", file, "-l", "critical", "--disable-hot-restart", "--concurrency", "1")
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = proxy.Process.Kill()
		_ = proxy.Wait()
	})
	a.eventually("it answers", a.answers)
	return a
}

// serve starts weir.
func (a *apart) serve() {
	a.t.Helper()
	a.weir = exec.Command(binary, "serve", "--log-format", "json")
	a.weir.Dir = a.Dir
	a.weir.Stderr = os.Stderr
	if err := a.weir.Start(); err != nil {
		a.t.Fatal(err)
	}
}

// kill ends weir without a word.
func (a *apart) kill() {
	_ = a.weir.Process.Kill()
	_ = a.weir.Wait()
}

// answers tells whether a request is served.
func (a *apart) answers() bool {
	got, err := a.try(a.t.Context(), http.MethodPost, "/v1/chat/completions", chat(), "x-simulate", "tokens=1")
	return err == nil && got.status == http.StatusOK
}
