package deploytest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/weir-gateway/weir/envoy"
)

// pod is the chart's pod, played on this machine: its commands run as they stand in the
// manifest, but without containers, and with other folders and ports.
type pod struct {
	t     *testing.T
	dir   string // stands for /
	url   string
	inits []played
	envoy played
	key   string
}

// played is what of a container is played.
type played struct {
	Name          string
	Command, Args []string
	Env           []struct{ Name, Value string }
	StartupProbe  struct{ Exec struct{ Command []string } }
	Lifecycle     struct {
		PreStop struct{ Exec struct{ Command []string } }
	}
}

// newPod renders the chart for a pod that can be played.
func newPod(t *testing.T, upstream string) *pod {
	t.Helper()
	dir, err := os.MkdirTemp("", "weir-pod-") // a short path: there are sockets in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	objects, err := render(t, fmt.Sprintf("drain: {wait: 1, timeout: 20}\nconfig: {upstreams: [{name: engine, url: %q, models: discover}]}\n", upstream))
	if err != nil {
		t.Fatal(err)
	}
	listen, metrics := freePort(t), freePort(t)
	place := strings.NewReplacer("/run/weir", dir+"/run", "/opt/weir", dir+"/opt", "/etc/weir", dir+"/etc", "/var/lib/weir", dir+"/lib",
		"/usr/local/bin/weir", weir, "0.0.0.0:8080", listen, "0.0.0.0:9091", metrics)
	p := &pod{t: t, dir: dir, url: "http://" + listen}
	for _, name := range []string{"run", "opt", "lib", "etc/config", "etc/keys"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range objects {
		text = place.Replace(text)
		var o struct {
			Kind string
			Data map[string]string
			Spec struct {
				Template struct {
					Spec struct{ InitContainers, Containers []played }
				}
			}
		}
		if err := yaml.Unmarshal([]byte(text), &o); err != nil {
			t.Fatal(err)
		}
		switch o.Kind {
		case "ConfigMap":
			write(t, filepath.Join(dir, "etc/config/weir.yaml"), o.Data["weir.yaml"], 0o600)
		case "Deployment":
			p.inits, p.envoy = o.Spec.Template.Spec.InitContainers, o.Spec.Template.Spec.Containers[0]
		}
	}
	out, err := exec.CommandContext(t.Context(), weir, "keys", "new", "--file", dir+"/etc/keys/keys.yaml", "--user", "ann").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for word := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(word, "sk-") {
			p.key = word
		}
	}
	return p
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start starts a container's program.
func (p *pod) start(program string, c played) *exec.Cmd {
	p.t.Helper()
	cmd := exec.Command(program, c.Args...)
	cmd.Env = os.Environ()
	for _, v := range c.Env {
		cmd.Env = append(cmd.Env, v.Name+"="+v.Value)
	}
	log := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		_ = cmd.Process.Kill() // ends what has not ended
		_ = cmd.Wait()
		if p.t.Failed() {
			p.t.Logf("%s:\n%s", c.Name, log)
		}
	})
	return cmd
}

// probe runs a command of the manifest.
func (p *pod) probe(ctx context.Context, command []string) error {
	out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, out)
	}
	return nil
}

func (p *pod) eventually(what string, f func() error) {
	p.t.Helper()
	var err error
	for range 300 {
		if err = f(); err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	p.t.Fatalf("not within 30 s: %s: %v", what, err)
}

// chat asks for an answer, and returns its body's reader.
func (p *pod) chat(more string) (*http.Response, error) {
	body := `{"model":"demo","messages":[{"role":"user","content":"Hello"}]` + more + `}`
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+p.key)
	return http.DefaultClient.Do(req)
}

// TestPod plays the life of the chart's pod: what is to be done first, the sidecar until
// its probe is good, Envoy, requests, and the end as a kubelet brings it about, under a
// stream that comes to its own.
func TestPod(t *testing.T) {
	binary, err := envoy.Find(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	sim := freePort(t)
	simulator := exec.Command(weir, "simulate", "--listen", sim, "--model", "demo=tokens=60,pace=50ms")
	if err := simulator.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = simulator.Process.Kill()
		_ = simulator.Wait()
	}()
	p := newPod(t, "http://"+sim+"/v1")
	if names := []string{p.inits[0].Name, p.inits[1].Name, p.envoy.Name}; !slices.Equal(names, []string{"install", "weir", "envoy"}) {
		t.Fatalf("containers %q", names)
	}
	if err := p.probe(t.Context(), append([]string{weir}, p.inits[0].Args...)); err != nil {
		t.Fatal(err)
	}
	sidecar := p.start(weir, p.inits[1])
	p.eventually("the startup probe is good", func() error { return p.probe(t.Context(), p.inits[1].StartupProbe.Exec.Command) })
	proxy := p.start(binary, p.envoy)
	p.eventually("the readiness probe is good", func() error {
		resp, err := http.Get(p.url + "/health")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
		return nil
	})

	stream, err := p.chat(`,"stream":true`)
	if err != nil || stream.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", stream, err)
	}
	defer stream.Body.Close()
	stopped := make(chan error, 1)
	go func() { stopped <- p.probe(context.WithoutCancel(t.Context()), p.envoy.Lifecycle.PreStop.Exec.Command) }()
	// Those who have not yet learned of the end are served.
	resp, err := p.chat(`,"max_tokens":1`)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("status %d while the pod begins to end", resp.StatusCode)
	}
	text, err := io.ReadAll(stream.Body)
	if err != nil || !bytes.HasSuffix(text, []byte("data: [DONE]\n\n")) {
		t.Errorf("the stream was cut: %v, %.100q", err, text[max(0, len(text)-100):])
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://")); err == nil {
		conn.Close()
		t.Error("connections are taken after the drain")
	}
	// Then containers are told, the sidecar last.
	for _, cmd := range []*exec.Cmd{proxy, sidecar} {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", cmd.Path, err)
		}
	}
}
