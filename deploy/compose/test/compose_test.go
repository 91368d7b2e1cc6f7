//go:build compose

package composetest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// services are those of the quick start, with user and group of each.
var services = map[string]string{"envoy": "101:101", "weir": "65532:101", "redis": "999:999", "simulator": "65532:65532"}

// TestCompose brings the stack up, uses it, disturbs it and takes it down.
func TestCompose(t *testing.T) {
	s := open(t)
	for _, profiles := range []string{"", "demo", "gpu", "cpu", "demo,monitoring", "gpu,monitoring"} {
		s.profiles = profiles
		if out := s.compose("config", "--quiet"); out != "" {
			t.Errorf("docker compose config with the profiles %q warns: %s", profiles, out)
		}
	}
	s.profiles = "demo"
	t.Cleanup(func() {
		if t.Failed() {
			for _, args := range [][]string{{"compose", "ps", "-a"}, {"compose", "logs", "--no-color", "--tail", "20"}} {
				out, _ := s.command(args...)
				t.Logf("docker %s\n%s", strings.Join(args, " "), out)
			}
			ids, _ := s.command("ps", "-aq")
			out, _ := s.command(append([]string{"inspect", "-f", "{{.Name}}: {{with .State.Health}}{{.Status}}{{range .Log}}\n{{.ExitCode}} {{.Output}}{{end}}{{end}}"}, strings.Fields(ids)...)...)
			t.Logf("probes\n%s", out)
		}
	})
	start := time.Now()
	s.compose("up", "--detach", "--wait", "--wait-timeout", "90")
	t.Logf("up after %v", time.Since(start).Round(100*time.Millisecond))
	for _, step := range []struct {
		name string
		do   func(*site)
	}{
		{"serves", (*site).serves},
		{"limits", (*site).limits},
		{"is closed to the outside", (*site).isClosed},
		{"is monitored", (*site).isMonitored},
		{"outlives Redis", (*site).outlivesRedis},
		{"streams outlive weir", (*site).streamsOutliveWeir},
		{"comes back with Envoy", (*site).comesBackWithEnvoy},
		{"comes back with its upstream", (*site).comesBackWithUpstream},
		{"holds no slots", (*site).holdsNoSlots},
		{"takes a new configuration", (*site).takesConfiguration},
		{"tells no secrets", (*site).tellsNoSecrets},
		{"leaves nothing", (*site).leavesNothing},
	} {
		if !t.Run(step.name, func(t *testing.T) {
			here := *s
			here.t = t
			step.do(&here)
		}) {
			break
		}
	}
}

// serves: chat and a stream with the key that setup made; nothing without one.
func (s *site) serves() {
	if a := chat(s.t.Context(), s.firstKey, "tokens=3", false); a.status != http.StatusOK || !strings.Contains(a.body, `"completion_tokens":3`) {
		s.t.Errorf("plain: %v", a)
	}
	if a := chat(s.t.Context(), s.firstKey, "tokens=3", true); !a.whole() {
		s.t.Errorf("stream: %v", a)
	}
	if a := chat(s.t.Context(), "", "tokens=3", false); a.status != http.StatusUnauthorized {
		s.t.Errorf("without a key: %v", a)
	}
	for _, args := range [][]string{{"weir", "health"}, {"weir", "health", "-o", "json", "http://simulator:8000"}, {"weir", "check"}} {
		s.compose(append([]string{"exec", "-T", "weir"}, args...)...)
	}
	if out := s.compose("exec", "-T", "weir", "weir", "usage", "--by", "model"); !strings.Contains(out, "demo") {
		s.t.Errorf("weir usage: %s", out)
	}
	// A few streams teach weir what their tokens take on the wire.
	for range 30 {
		chat(s.t.Context(), busyKey, "tokens=20,pace=1ms,ttft=0s", true)
	}
}

// limits: five requests a day are five, also when Redis has been restarted between.
func (s *site) limits() {
	var statuses []int
	for i := range 7 {
		if i == 3 {
			s.compose("restart", "redis")
			s.eventually("the store is back", 20*time.Second, func() bool {
				text, _ := s.health()
				return strings.Contains(text, `"store":{"status":"ok"`)
			})
		}
		a := chat(s.t.Context(), limitedKey, "tokens=1", false)
		statuses = append(statuses, a.status)
		if a.status == http.StatusTooManyRequests && (a.header.Get("Retry-After") == "" || !strings.Contains(a.body, "key-rpd")) {
			s.t.Errorf("the refusal does not explain itself: %v", a)
		}
	}
	if want := []int{200, 200, 200, 200, 200, 429, 429}; !slices.Equal(statuses, want) {
		s.t.Errorf("statuses %v, want %v", statuses, want)
	}
}

// isClosed: who runs what, with which rights, and who can be reached.
func (s *site) isClosed() {
	s.compose("up", "--detach", "--wait", "--wait-timeout", "30") // Redis was restarted
	for name, user := range services {
		c := s.inspect(name)
		h := c.HostConfig
		if c.Config.User != user || !h.ReadonlyRootfs || h.Privileged || len(h.CapAdd) > 0 || !slices.Equal(h.CapDrop, []string{"ALL"}) ||
			!slices.Equal(h.SecurityOpt, []string{"no-new-privileges:true"}) || h.RestartPolicy.Name != "unless-stopped" {
			s.t.Errorf("%s: %+v", name, c)
		}
		if h.Memory == 0 || h.NanoCpus == 0 || h.PidsLimit <= 0 {
			s.t.Errorf("%s is not bounded: %+v", name, h)
		}
		if c.State.Health.Status != "healthy" {
			s.t.Errorf("%s is %s", name, c.State.Health.Status)
		}
		s.checkProcess(name, c.State.Pid, user)
		s.checkReach(name, c)
	}
	for _, args := range [][]string{
		{"exec", "-T", "envoy", "bash", "-c", "echo >/etc/x"},
		{"exec", "-T", "redis", "bash", "-c", "echo >/etc/x"},
		// Envoy is not in the network of Redis, and whoever is has no rights without the password.
		{"exec", "-T", "envoy", "bash", "-c", "exec 3<>/dev/tcp/redis/6379"},
		{"exec", "-T", "redis", "redis-cli", "-e", "ping"},
		{"exec", "-T", "redis", "redis-cli", "-e", "--user", "health", "--pass", "any", "dbsize"},
	} {
		if out, err := s.command(append([]string{"compose"}, args...)...); err == nil {
			s.t.Errorf("docker compose %s: %s", strings.Join(args, " "), out)
		}
	}
}

// checkProcess asks the kernel about a container's first process.
func (s *site) checkProcess(name string, pid int, user string) {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		s.t.Fatal(err)
	}
	uid, gid, _ := strings.Cut(user, ":")
	for _, want := range []string{"Uid:\t" + uid, "Gid:\t" + gid, "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(string(text), "\n"+want) {
			s.t.Errorf("%s: /proc/%d/status has no %q:\n%s", name, pid, want, text)
		}
	}
}

// checkReach: Envoy alone has a port, on this machine's own address, and Redis alone
// with weir has a network.
func (s *site) checkReach(name string, c container) {
	s.t.Helper()
	var ports []string
	for inside, bindings := range c.HostConfig.PortBindings {
		for _, b := range bindings {
			ports = append(ports, b.HostIP+":"+b.HostPort+" to "+inside)
		}
	}
	var networks []string
	for n := range c.NetworkSettings.Networks {
		networks = append(networks, n)
	}
	slices.Sort(networks)
	wantPorts := map[string][]string{"envoy": {"127.0.0.1:8080 to 8080/tcp"}}[name]
	wantNetworks := map[string][]string{
		"envoy": {"weir_public", "weir_upstream"}, "redis": {"weir_store"}, "simulator": {"weir_upstream"},
		"weir": {"weir_monitoring", "weir_store", "weir_upstream"},
	}[name]
	if !slices.Equal(ports, wantPorts) || !slices.Equal(networks, wantNetworks) {
		s.t.Errorf("%s has the ports %q and the networks %q", name, ports, networks)
	}
	if inner := s.docker("network", "inspect", "-f", "{{.Internal}}", "weir_store", "weir_monitoring"); inner != "true\ntrue\n" {
		s.t.Errorf("networks of weir's own that are internal: %s", inner)
	}
}

// isMonitored: Prometheus takes its configuration and rules, and the metrics of weir and
// Envoy.
func (s *site) isMonitored() {
	s.profiles = "demo,monitoring"
	s.compose("up", "--detach", "--wait", "--wait-timeout", "60", "prometheus")
	url := "http://" + s.inspect("prometheus").NetworkSettings.Networks["weir_monitoring"].IPAddress + ":9090/api/v1/query?query=sum(up%7Bjob%3D~%22weir%7Cenvoy%22%7D)"
	s.eventually("Prometheus has scraped weir and, by way of it, Envoy", 40*time.Second, func() bool {
		resp, err := client.Get(url)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		var text strings.Builder
		_ = resp.Write(&text)
		return strings.Contains(text.String(), `,"2"]`)
	})
	s.compose("rm", "--stop", "--force", "prometheus")
}

// outlivesRedis: no request fails because of it.
func (s *site) outlivesRedis() {
	l := startLoad(s.t)
	s.compose("restart", "redis")
	l.end()
	if failed, _ := failures(l.good); len(failed) > 0 {
		s.t.Errorf("%d of %d requests failed while Redis was restarted, first: %v", len(failed), len(l.good), failed[0])
	}
	s.wholeStreams(l)
	s.noneSlippedIn(l)
	s.eventually("the store is back", 20*time.Second, func() bool {
		text, status := s.health()
		return status == http.StatusOK && strings.Contains(text, `"store":{"status":"ok"`)
	})
}

// streamsOutliveWeir: even if weir is killed in their midst. New requests are refused
// until it is back, and not one of these gets through.
func (s *site) streamsOutliveWeir() {
	l := startLoad(s.t)
	s.compose("restart", "--timeout", "2", "weir")
	s.recovers()
	l.end()
	failed, took := failures(l.good)
	s.t.Logf("%d of %d requests were refused, within %v", len(failed), len(l.good), took.Round(time.Millisecond))
	if took > 20*time.Second {
		s.t.Errorf("requests failed for %v", took)
	}
	for _, a := range failed {
		if a.status != http.StatusServiceUnavailable || a.err != nil {
			s.t.Errorf("want 200 or 503: %v", a)
		}
	}
	s.wholeStreams(l)
	s.noneSlippedIn(l)
}

// comesBackWithEnvoy: its connections break, and everything is as before.
func (s *site) comesBackWithEnvoy() {
	l := startLoad(s.t)
	s.compose("restart", "envoy")
	s.recovers()
	l.end()
	failed, took := failures(l.good)
	s.t.Logf("%d of %d requests failed, within %v", len(failed), len(l.good), took.Round(time.Millisecond))
	if took > 20*time.Second {
		s.t.Errorf("requests failed for %v", took)
	}
	for _, a := range failed {
		if a.err == nil && a.status != http.StatusServiceUnavailable {
			s.t.Errorf("want a broken connection or 503: %v", a)
		}
	}
	s.noneSlippedIn(l)
}

// comesBackWithUpstream: clients are told whose fault it is.
func (s *site) comesBackWithUpstream() {
	l := startLoad(s.t)
	s.compose("restart", "simulator")
	s.recovers()
	l.end()
	failed, took := failures(l.good)
	s.t.Logf("%d of %d requests failed, within %v", len(failed), len(l.good), took.Round(time.Millisecond))
	if took > 30*time.Second {
		s.t.Errorf("requests failed for %v", took)
	}
	for _, a := range failed {
		if a.err != nil || a.status < 500 || !strings.Contains(a.body, `"error"`) {
			s.t.Errorf("want an error of weir's: %v", a)
		}
	}
	for _, a := range l.stream { // none looks as if it were complete
		if a.err == nil && !strings.Contains(a.body, `data: {"error"`) {
			s.t.Errorf("a stream whose upstream went away: %v", a)
		}
	}
}

// recovers: requests are served again, one after the other.
func (s *site) recovers() {
	s.t.Helper()
	row := 0
	s.eventually("ten requests in a row are served", 40*time.Second, func() bool {
		if a := chat(context.Background(), busyKey, "tokens=1,ttft=0s", false); a.status != http.StatusOK {
			row = 0
		} else {
			row++
		}
		return row == 10
	})
}

// wholeStreams: each stream that was under way came to its end.
func (s *site) wholeStreams(l *load) {
	s.t.Helper()
	for _, a := range l.stream {
		if !a.whole() || a.ended.Sub(a.began) < streamTime/2 {
			s.t.Errorf("a stream that was under way, after %v: %v", a.ended.Sub(a.began), a)
		}
	}
}

// noneSlippedIn: what weir has not let in has not reached the upstream.
func (s *site) noneSlippedIn(l *load) {
	s.t.Helper()
	entries := s.simulated()
	for _, a := range l.denied {
		if a.status == http.StatusOK {
			s.t.Errorf("a request without a key was served: %v", a)
		}
	}
	refused, _ := failures(append(slices.Clone(l.denied), l.good...))
	for _, a := range refused {
		if entry, ok := entries[a.id]; ok && a.id != "" {
			s.t.Errorf("a request that got %d reached the upstream: %+v", a.status, entry)
		}
	}
	if len(entries) < len(l.good)/2 || len(l.denied) == 0 {
		s.t.Errorf("the upstream knows of %d requests, %d were sent, %d without a key: the test shows nothing", len(entries), len(l.good), len(l.denied))
	}
}

// holdsNoSlots: after all that, nothing is taken.
func (s *site) holdsNoSlots() {
	s.eventually("all slots are free", 45*time.Second, func() bool {
		for line := range strings.Lines(s.compose("exec", "-T", "weir", "weir", "limits")) {
			if f := strings.Fields(line); strings.Contains(line, "concurrency") && !strings.Contains(line, " 0 ") && len(f) > 3 {
				return false
			}
		}
		return true
	})
}

// takesConfiguration: a changed upstream and a key that is added work by themselves;
// what needs a restart is said to.
func (s *site) takesConfiguration() {
	// In place: a secret is mounted as a file.
	if err := os.WriteFile(filepath.Join(s.dir, "deploy/compose/secrets/upstream_keys"), []byte(upstreamKey+"\n"), 0o444); err != nil {
		s.t.Fatal(err)
	}
	s.edit("weir.yaml", "models: discover", "models: discover\n    key_file: /run/secrets/upstream_keys")
	s.eventually("the upstream gets its new key", 20*time.Second, func() bool {
		chat(s.t.Context(), s.firstKey, "tokens=1", false)
		for _, e := range s.simulated() {
			if strings.HasSuffix(upstreamKey, e.Auth) && e.Auth != "" {
				return true
			}
		}
		return false
	})
	out := s.compose("run", "--rm", "--no-deps", "--user", fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid()), "--volume", filepath.Join(s.dir, "deploy/compose/weir")+":/keys",
		"weir", "keys", "new", "--file", "/keys/keys.yaml", "--user", "ann")
	added := regexp.MustCompile(`sk-weir-\S+`).FindString(out)
	s.eventually("the new client key is taken", 20*time.Second, func() bool {
		return chat(s.t.Context(), added, "tokens=1", false).status == http.StatusOK
	})
	*s.secrets = append(*s.secrets, added)
	s.edit("weir.yaml", "envoy: {", "envoy: {max_connections: 1000, ")
	s.eventually("weir says that this takes a restart", 20*time.Second, func() bool {
		return strings.Contains(s.compose("logs", "weir"), "take effect when weir starts the next time")
	})
	s.compose("restart", "weir", "envoy")
	s.recovers()
	if out := s.bootstrap(); !strings.Contains(out, `max_active_downstream_connections: "1000"`) {
		s.t.Errorf("Envoy's bootstrap is not that of the configuration:\n%s", out)
	}
}

// edit replaces a part of one of weir's files, as editors do: by another file.
func (s *site) edit(name, old, with string) {
	s.t.Helper()
	file := filepath.Join(s.dir, "deploy/compose/weir", name)
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), old) {
		s.t.Fatalf("%s has no %q: %v", name, old, err)
	}
	if err := os.WriteFile(file+".new", []byte(strings.Replace(string(text), old, with, 1)), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		s.t.Fatal(err)
	}
}

// bootstrap is what Envoy was started with, and what that leads to.
func (s *site) bootstrap() string {
	s.t.Helper()
	return s.compose("exec", "-T", "envoy", "bash", "-c", `for f in /run/weir/*.yaml /run/weir/*.json; do while IFS= read -r l || [[ $l ]]; do echo "$l"; done <"$f"; done`)
}

// upstreamKey is the credential of the engine in the end.
const upstreamKey = "sk-upstream-canary-0123456789"

// tellsNoSecrets looks for them in everything that Docker, Envoy and the kernel tell.
func (s *site) tellsNoSecrets() {
	told := map[string]string{
		"docker compose config": s.compose("config"), "the logs": s.compose("logs"), "weir's image": s.docker("image", "save", "weir:test"),
		"Envoy's configuration": s.bootstrap(), "Envoy's dump": s.dump(),
	}
	for name := range services {
		told["docker inspect "+name] = s.docker("inspect", "weir-"+name+"-1")
		pid := s.inspect(name).State.Pid
		for _, file := range []string{"environ", "cmdline"} {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
			if err != nil || len(text) == 0 {
				s.t.Errorf("%s of %s: %v", file, name, err)
			}
			told[file+" of "+name] = string(text)
		}
	}
	secrets := append(*s.secrets, busyKey, limitedKey, s.firstKey, upstreamKey)
	for _, name := range []string{"redis_password", "grafana_password"} {
		text, err := os.ReadFile(filepath.Join(s.dir, "deploy/compose/secrets", name))
		if err != nil || len(text) < 20 {
			s.t.Fatalf("%s: %v, %d bytes", name, err, len(text))
		}
		secrets = append(secrets, strings.TrimSpace(string(text)))
	}
	for what, text := range told {
		if len(text) < 1000 && !strings.Contains(what, " of ") {
			s.t.Errorf("%s could not be looked at: %q", what, text)
		}
		for i, secret := range secrets {
			if strings.Contains(text, secret) {
				s.t.Errorf("%s shows secret %d", what, i)
			}
		}
	}
}

// dump is what Envoy itself tells of its configuration, on the socket in the volume.
func (s *site) dump() string {
	s.t.Helper()
	socket := fmt.Sprintf("/proc/%d/root/run/weir/envoy.sock", s.inspect("envoy").State.Pid)
	admin := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}
	defer admin.CloseIdleConnections()
	resp, err := admin.Get("http://envoy/config_dump?include_eds")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// leavesNothing: down takes everything away.
func (s *site) leavesNothing() {
	s.profiles = "demo,monitoring"
	start := time.Now()
	s.compose("down", "--volumes")
	s.t.Logf("down after %v", time.Since(start).Round(100*time.Millisecond))
	for what, args := range map[string][]string{
		"containers": {"ps", "-aq"}, "volumes": {"volume", "ls", "-q"}, "networks": {"network", "ls", "-q", "--filter", "type=custom"},
	} {
		if out := s.docker(args...); out != "" {
			s.t.Errorf("%s are left: %s", what, out)
		}
	}
}
