package e2e

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// newcomer is somebody who has the README and a terminal.
type newcomer struct {
	t        *testing.T
	commands []string // of the README, a line each
	config   string   // the README's weir.yaml
	ports    *strings.Replacer
	browser  *http.Client
	kept     strings.Builder // what the shell has in mind: variables and functions
}

// TestNewUser tries weir as a new user does: what is run is what stands in the README.
func TestNewUser(t *testing.T) {
	t.Parallel()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	n := &newcomer{t: t, browser: &http.Client{Jar: jar, Timeout: 10 * time.Second}}
	var ports []string
	for _, port := range []string{"8080", "8002", "9090", "9091"} {
		_, free, _ := strings.Cut(freePort(t), ":")
		ports = append(ports, "127.0.0.1:"+port, "127.0.0.1:"+free, "0.0.0.0:"+port, "127.0.0.1:"+free)
	}
	n.ports = strings.NewReplacer(ports...)
	for _, b := range blocks(t, "../README.md") {
		switch b.lang {
		case "yaml":
			n.config = n.ports.Replace(b.text)
		case "sh":
			for line := range strings.Lines(b.text) {
				n.commands = append(n.commands, strings.TrimSpace(line))
			}
		}
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/new-user",
		Setup: func(e *testscript.Env) error {
			for _, name := range []string{"ENVOY", "XDG_CACHE_HOME", "HOME", "PATH"} {
				if v := os.Getenv(name); v != "" {
					e.Setenv(name, v)
				}
			}
			if err := os.Mkdir(filepath.Join(e.WorkDir, "bin"), 0o755); err != nil {
				return err
			}
			if err := os.Symlink(binary, filepath.Join(e.WorkDir, "bin", "weir")); err != nil {
				return err
			}
			e.Setenv("XDG_RUNTIME_DIR", shortDir(t)) // sockets want short paths
			return os.WriteFile(filepath.Join(e.WorkDir, "weir.yaml"), []byte(n.config+"run_dir: "+shortDir(t)+"\n"), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"readme": n.readme, "readme-start": n.start, "keep": n.keep, "fetch": n.fetch, "login": n.login,
		},
	})
}

// command is the README's line that begins so.
func (n *newcomer) command(ts *testscript.TestScript, begin string) string {
	for _, c := range n.commands {
		if strings.HasPrefix(c, begin) && !strings.HasPrefix(c, begin+"()") {
			return n.ports.Replace(c)
		}
	}
	ts.Fatalf("the README has no command that begins with %q", begin)
	return ""
}

// readme runs a command of the README, or keeps the function that it defines.
func (n *newcomer) readme(ts *testscript.TestScript, _ bool, args []string) {
	c := n.command(ts, args[0])
	if strings.Contains(c, "() {") {
		n.kept.WriteString(c + "\n")
		return
	}
	c = strings.Replace(c, "bin/weir top ", "bin/weir top -n 1 ", 1) // it would go on
	ts.Check(ts.Exec("bash", "-uc", n.kept.String()+c))
}

// keep keeps what was printed as a variable.
func (n *newcomer) keep(ts *testscript.TestScript, _ bool, args []string) {
	n.kept.WriteString(args[0] + "=" + strings.TrimSpace(ts.ReadFile("stdout")) + "\n")
}

// start starts a command of the README, waits until it says so, and ends it with the test.
func (n *newcomer) start(ts *testscript.TestScript, _ bool, args []string) {
	c := strings.TrimSuffix(strings.TrimSpace(strings.SplitN(n.command(ts, args[0]), "#", 2)[0]), "&")
	cmd := exec.Command("bash", "-c", "exec "+c)
	cmd.Dir = ts.Getenv("WORK")
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+ts.Getenv("XDG_RUNTIME_DIR"))
	out := &printout{}
	cmd.Stdout, cmd.Stderr = out, out
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			n.t.Errorf("%s: %v\n%s", c, err, out)
		}
	})
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(out.String(), args[1]); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("%s does not say %q:\n%s", c, args[1], out)
		}
	}
}

// fetch shows a page to the browser.
func (n *newcomer) fetch(ts *testscript.TestScript, _ bool, args []string) {
	resp, err := n.browser.Get(n.ports.Replace(args[0]))
	ts.Check(err)
	defer resp.Body.Close()
	_, err = io.Copy(ts.Stdout(), resp.Body)
	ts.Check(err)
}

// login enters what is in a file.
func (n *newcomer) login(ts *testscript.TestScript, _ bool, args []string) {
	form := url.Values{"token": {strings.TrimSpace(ts.ReadFile(args[1]))}}
	resp, err := n.browser.PostForm(n.ports.Replace(args[0])+"login", form)
	ts.Check(err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		ts.Fatalf("status %d", resp.StatusCode)
	}
}

// printout keeps what a program prints.
type printout struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *printout) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *printout) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}
