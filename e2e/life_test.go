package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weir-gateway/weir/e2e/site"
	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/ledger"
)

// TestDemo does what the README says: weir up without any configuration, and the
// command that it prints, pasted into a shell.
func TestDemo(t *testing.T) {
	t.Parallel()
	s, err := site.Start(t.Context(), binary, t.TempDir(), []string{"--listen", "127.0.0.1:0"}, "WEIR_TEST=demo")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}()
	_, command, ok := strings.Cut(s.Stdout(), "Try it:\n")
	command, _, ends := strings.Cut(command, "Ctrl-C")
	if !ok || !ends || !strings.Contains(command, "curl -N "+s.URL) {
		t.Fatalf("no command to paste in:\n%s", s.Stdout())
	}
	out, err := exec.CommandContext(t.Context(), "bash", "-c", command).Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, command)
	}
	if n := strings.Count(string(out), "\ndata: "); n < 20 || !strings.HasSuffix(string(out), "data: [DONE]\n\n") {
		t.Errorf("%d events, ending in %q", n, out[max(0, len(out)-100):])
	}
	if strings.Contains(string(out), `"choices":[],`) {
		t.Error("the client got an event that it did not ask for")
	}
	_, token, _ := strings.Cut(s.Stdout(), "with the token ")
	token, _, ok = strings.Cut(token, ")")
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.PostForm(s.Admin+"/dashboard/login", url.Values{"token": {token}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if !ok || resp.StatusCode != http.StatusSeeOther || !strings.Contains(s.Stdout(), "  "+s.Admin+"/dashboard/ ") {
		t.Errorf("the dashboard: status %d, announced by:\n%s", resp.StatusCode, s.Stdout())
	}
	if strings.Contains(s.Log(), token) {
		t.Error("the log shows the token of the demo")
	}
}

// openTerminal is a terminal for a program, and what shows there.
func openTerminal(t *testing.T) (terminal, screen *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	if terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	return terminal, screen
}

// TestSecondSignalEndsAtOnce has weir told twice to end while an answer streams that takes
// minutes, also where the system's own doing is to ignore the signal, as in a script's
// background. Envoy ends with it.
func TestSecondSignalEndsAtOnce(t *testing.T) { // alone: a demo that starts beside it may take a port that it has just found free
	const script = `trap "" INT; exec "$@"`
	dir := t.TempDir()
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	log := func() string {
		text, err := os.ReadFile(out.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	cmd := exec.Command("sh", "-c", script, "sh", binary, "up", "--listen", "127.0.0.1:0", "--drain", "10m")
	terminal, screen := openTerminal(t)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, terminal
	var copied sync.WaitGroup
	copied.Go(func() { _, _ = io.Copy(out, screen) }) // until nobody writes any more
	defer copied.Wait()
	defer terminal.Close()
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }() // it may be gone already
	await := func(text string) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !strings.Contains(log(), text); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("weir does not say %q:\n%s", text, log())
			}
		}
	}
	await("Ctrl-C stops it.")
	after := func(name string) string {
		_, rest, _ := strings.Cut(log(), name)
		return strings.Fields(rest)[0]
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, after("URL ")+"/chat/completions", strings.NewReader(`{"model":"demo","stream":true,"messages":[{"role":"user","content":"Hello"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+after("Key "))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Simulate", "tokens=20000,pace=50ms")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := resp.Body.Read(make([]byte, 1)); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v", resp.StatusCode, err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	await("Waiting for 1 answer to end, for 10m0s at most. Ctrl-C again ends at once.")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 130 {
			t.Errorf("weir ended with %v, want exit status 130", err)
		}
	case <-time.After(time.Minute): // of the ten that the answer may take
		t.Fatalf("weir goes on:\n%s", log())
	}
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the answer has come to its end")
	}
	if l, err := net.Listen("tcp", strings.TrimSuffix(strings.TrimPrefix(after("URL "), "http://"), "/v1")); err != nil {
		t.Errorf("Envoy goes on: %v", err)
	} else {
		_ = l.Close()
	}
}

// TestStopWaitsForAnswers lets weir stop while an answer streams.
func TestStopWaitsForAnswers(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{model: "tokens=20,pace=50ms"})
	resp, err := r.send(t.Context(), http.MethodPost, "/v1/chat/completions", chat(`"stream":true`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := r.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || !strings.HasSuffix(string(body), "data: [DONE]\n\n") {
		t.Errorf("the answer was cut: %v, %q", err, body[max(0, len(body)-100):])
	}
	select {
	case <-r.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("weir did not stop after the last answer")
	}
	if records := r.records(); len(records) != 1 || records[0].Outcome != ledger.OK || records[0].Tokens.Output != 20 {
		t.Errorf("ledger %+v", records)
	}
}

// TestStopSettlesWhatItCuts gives an answer too little time to end.
func TestStopSettlesWhatItCuts(t *testing.T) {
	t.Parallel()
	for _, metering := range []string{"streamed", "native"} {
		t.Run(metering, func(t *testing.T) {
			t.Parallel()
			stopCuts(t, start(t, fixture{model: "tokens=1000,pace=20ms", metering: metering, args: []string{"--drain", "300ms"}}))
		})
	}
}

func stopCuts(t *testing.T, r *rig) {
	t.Helper()
	resp, err := r.send(t.Context(), http.MethodPost, "/v1/chat/completions", chat(`"stream":true`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := r.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); err == nil && strings.HasSuffix(string(body), "[DONE]\n\n") {
		t.Error("the answer came to its end: the test shows nothing")
	}
	<-r.Done()
	records := r.records()
	if len(records) != 1 || records[0].Source != ledger.Estimated || records[0].Tokens.Output == 0 {
		t.Errorf("ledger %+v, want one estimated count", records)
	}
}

// TestDrain takes Envoy out of service while an answer streams, which comes to its end.
func TestDrain(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{model: "tokens=40,pace=50ms", killed: true})
	resp, err := r.send(t.Context(), http.MethodPost, "/v1/chat/completions", chat(`"stream":true`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	drain := exec.CommandContext(t.Context(), binary, "drain", "--run-dir", r.runDir, "--wait", "1s", "--quit")
	var told strings.Builder
	drain.Stdout, drain.Stderr = &told, &told
	if err := drain.Start(); err != nil {
		t.Fatal(err)
	}
	// At first requests are taken, and their connections closed.
	r.eventually("connections are closed after their requests", func() bool {
		resp, err := r.send(t.Context(), http.MethodGet, "/v1/models", "")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK && resp.Close
	})
	body, err := io.ReadAll(resp.Body)
	if err != nil || !strings.HasSuffix(string(body), "data: [DONE]\n\n") {
		t.Errorf("the answer was cut: %v, %q", err, body[max(0, len(body)-100):])
	}
	want := "Clients are asked to leave; new connections are taken for 1s more.\nNo new connections are taken. Requests that run: 1; they have 5m0s.\n"
	if err := drain.Wait(); err != nil || told.String() != want {
		t.Errorf("weir drain: %v, %s", err, told.String())
	}
	select {
	case <-r.Done():
	case <-time.After(10 * time.Second):
		t.Error("Envoy goes on")
	}
	if records := r.records(); len(records) != 1 || records[0].Outcome != ledger.OK {
		t.Errorf("ledger %+v", records)
	}
}

// TestDrainGivesUp: an answer that takes too long is told of.
func TestDrainGivesUp(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{model: "tokens=100,pace=50ms"})
	resp, err := r.send(t.Context(), http.MethodPost, "/v1/chat/completions", chat(`"stream":true`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := exec.CommandContext(t.Context(), binary, "drain", "--run-dir", r.runDir, "--wait", "0s", "--timeout", "300ms").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "1 requests did not end within 300ms") {
		t.Errorf("%v, %s", err, out)
	}
}

// TestEnvoyDiesWithWeir kills weir without a word.
func TestEnvoyDiesWithWeir(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{killed: true})
	pid, err := r.EnvoyPID()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-r.Done()
	r.eventually("Envoy is gone", func() bool {
		c, err := net.DialTimeout("tcp", strings.TrimPrefix(r.URL, "http://"), time.Second)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	t.Logf("Envoy was process %d", pid)
}

// TestWeirEndsWithEnvoy kills Envoy.
func TestWeirEndsWithEnvoy(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{killed: true})
	pid, err := r.EnvoyPID()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-r.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("weir goes on without Envoy")
	}
	if !strings.Contains(r.Log(), "Envoy ended") {
		t.Errorf("weir does not say why it ended:\n%s", r.Log())
	}
}

// TestStartFailures says what is wrong when weir cannot start.
func TestStartFailures(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	tests := []struct {
		name, says string
		args       []string
		env        []string
		code       int
	}{
		{"a port in use", taken.Addr().String() + " is in use by another program", []string{"up", "--listen", taken.Addr().String()}, nil, 1},
		{"no Envoy", "ENVOY names no file", []string{"up"}, []string{"ENVOY=/no/such/file"}, 1},
		{"no such configuration", "read configuration: open /no/weir.yaml", []string{"up", "-c", "/no/weir.yaml"}, nil, 1},
		{"no such configuration, by the environment", "open /no/weir.yaml", []string{"check"}, []string{"CONFIG_FILE=/no/weir.yaml"}, 1},
		{"nothing to check", "there is no ./weir.yaml", []string{"check"}, nil, 2},
		{"no such command", "Try: weir --help", []string{"fly"}, nil, 2},
		{"no such level", "want trace, debug", []string{"up", "--log-level", "loud"}, nil, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, binary, tt.args...)
			cmd.Dir = t.TempDir()
			cmd.Env = append(os.Environ(), tt.env...)
			out, err := cmd.CombinedOutput()
			if err == nil || cmd.ProcessState.ExitCode() != tt.code || !strings.Contains(string(out), tt.says) {
				t.Errorf("exit code %d, want %d and %q:\n%s", cmd.ProcessState.ExitCode(), tt.code, tt.says, out)
			}
		})
	}
}

// TestSecondWeir starts another one on the same sockets.
func TestSecondWeir(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	r := start(t, fixture{runDir: dir})
	followed := func() (text string) {
		for _, name := range []string{envoy.BootstrapFile, envoy.ClustersFile, envoy.RoutesFile} {
			content, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			text += string(content)
		}
		return text
	}
	before := followed()
	config, err := os.ReadFile(filepath.Join(r.Dir, "weir.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	r.rewrite("second.yaml", strings.ReplaceAll(string(config), "sim", "elsewhere"))
	second := exec.CommandContext(t.Context(), binary, "up", "-c", "second.yaml")
	second.Dir = r.Dir
	out, err := second.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another weir serves "+dir) {
		t.Errorf("%v:\n%s", err, out)
	}
	if got := r.post(chat()); got.status != http.StatusOK {
		t.Errorf("the first one is disturbed: status %d", got.status)
	}
	if followed() != before {
		t.Error("what the first one's Envoy reads was written by the second")
	}
}

// TestServe runs weir and Envoy apart.
func TestServe(t *testing.T) {
	t.Parallel()
	r := startApart(t, fixture{})
	if got := r.post(chat()); got.status != http.StatusOK {
		t.Errorf("status %d: %s", got.status, got.body)
	}
}

// freePort is an address that nobody listens at.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
