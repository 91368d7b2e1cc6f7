package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// block is what stands between two fences of a page.
type block struct {
	page string
	line int
	lang string // sh, yaml, json, or "" for what a program prints
	text string
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.page, b.line) }

// pages are what people read.
func pages(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../docs/*.md")
	if err != nil || len(files) < 10 {
		t.Fatalf("pages %q, %v", files, err)
	}
	return append(files, "../README.md")
}

// blocks are those of a page.
func blocks(t *testing.T, page string) (list []block) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var open *block
	for i, line := range strings.Split(string(text), "\n") {
		switch lang, fence := strings.CutPrefix(line, "```"); {
		case fence && open == nil:
			open = &block{page: filepath.Base(page), line: i + 1, lang: lang}
		case fence:
			list = append(list, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	if open != nil {
		t.Errorf("%v has no end", open)
	}
	return list
}

// elsewhere are commands that need what a test here has not, by their beginnings, with a
// file in which they are tried, and what shows it there.
var elsewhere = map[string]struct{ file, shows string }{
	"deploy/compose/setup":         {"../deploy/compose/test/run", "deploy/compose/setup >"},
	"docker compose up":            {"../deploy/compose/test/compose_test.go", `s.compose("up", "--detach", "--wait"`},
	"docker compose run":           {"../deploy/compose/test/compose_test.go", `s.compose("run", "--rm", "--no-deps", "--user"`},
	"install -m":                   {"../deploy/test/systemd_test.go", "deploy/systemd/*.service"},
	"systemctl enable":             {"../deploy/test/systemd_test.go", "systemd-analyze"},
	"kubectl create secret":        {"../deploy/test/helm_test.go", "kubernetes-validate"},
	"helm install weir":            {"../deploy/test/helm_test.go", "engine.Engine"},
	"OTEL_EXPORTER_OTLP_ENDPOINT=": {"traces_test.go", "OTEL_EXPORTER_OTLP_ENDPOINT="},
	"MEGALLM_BASE_URL=":            {"upstream_options_test.go", `"MEGALLM_BASE_URL="+`},
	"curl http://127.0.0.1:8080/":  {"life_test.go", `"curl -N "+s.URL`},
	"-d '":                         {"life_test.go", `"curl -N "+s.URL`},
	"weir keys new --file /keys/":  {"../deploy/compose/test/compose_test.go", `"weir", "keys", "new", "--file", "/keys/keys.yaml"`},
}

// TestDocs tries every example of the documentation: configuration is checked by weir,
// commands run beside a weir that serves, JSON is JSON, and what programs print has the
// columns that it is shown with.
func TestDocs(t *testing.T) {
	t.Parallel()
	for _, page := range pages(t) {
		list := blocks(t, page)
		if len(list) == 0 {
			continue
		}
		t.Run(filepath.Base(page), func(t *testing.T) {
			t.Parallel()
			var s *manual
			for _, b := range list {
				switch b.lang {
				case "json":
					if !json.Valid([]byte(b.text)) {
						t.Errorf("%v is not JSON", b)
					}
				case "yaml":
					checkYAML(t, b)
				case "sh", "":
					if b.lang == "sh" && b.page == "README.md" && !strings.HasPrefix(b.text, "make ") {
						continue // see TestNewUser
					}
					if s == nil {
						s = newManual(t)
					}
					s.try(b)
				default:
					t.Errorf("%v: nothing here knows how to try %q", b, b.lang)
				}
			}
		})
	}
}

// someKeys holds the ids that the pages use.
const someKeys = `
  - {id: 7QK2MZP4, user: ann, secret: sk-docs-7QK2MZP4-0123456789}
  - {id: k_7f3, user: ann, secret: sk-docs-k7f3-0123456789}
  - {id: ann, user: ann, secret: sk-docs-ann-0123456789}
`

// filesOfPages are those that examples name.
func filesOfPages(t *testing.T, dir string) {
	t.Helper()
	cert, key := certificate(t, 1)
	for name, text := range map[string]string{
		"admin.token": adminToken, "pepper": "0123456789abcdef0123456789abcdef", "data/keys.txt": "sk-pool-0123456789abcdef\n",
		"config/api_keys.json": `{"keys":[{"key":"sk-old-0123456789abcdef","user":"old","quota":1000,"enabled":true}]}`,
		"keys.yaml":            "keys:" + someKeys, "old/usage.jsonl": "",
		"etc/weir/tls/cert.pem": string(cert), "etc/weir/tls/key.pem": string(key),
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, file, text)
	}
}

// checkYAML has weir check a part of weir.yaml, or of keys.yaml, beside as little else as
// makes it whole. Values of a Helm chart are rendered by a test of the chart's.
func checkYAML(t *testing.T, b block) {
	t.Helper()
	if strings.HasPrefix(b.text, "# my-values.yaml") {
		return
	}
	dir := t.TempDir()
	filesOfPages(t, dir)
	text := strings.NewReplacer("/etc/weir/", dir+"/etc/weir/", "sha256:2c26b46b…", "sha256:"+strings.Repeat("2c26b46b", 8)).Replace(b.text)
	config := map[string]any{}
	if strings.HasPrefix(text, "# keys.yaml") {
		writeFile(t, filepath.Join(dir, "keys.yaml"), text)
		config["plans"] = map[string]any{"free": map[string]any{"limits": []any{}}}
	} else if err := yaml.Unmarshal([]byte(text), &config); err != nil || len(config) == 0 {
		t.Fatalf("%v: %v", b, err)
	}
	_, served := config["upstreams"]
	for name, part := range map[string]any{
		"keys":      map[string]any{"files": []string{"keys.yaml"}},
		"upstreams": []any{map[string]any{"name": "local", "url": "http://127.0.0.1:8002/v1"}},
		"models":    []any{map[string]any{"name": "m", "upstreams": []string{"local"}}},
	} {
		if _, ok := config[name]; !ok && (name != "models" || !served) {
			config[name] = part
		}
	}
	whole, err := yaml.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "weir.yaml"), string(whole))
	check := exec.CommandContext(t.Context(), binary, "check")
	check.Dir = dir
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v: %v\n%s\n%s", b, err, out, whole)
	}
}

// manual is a weir whose manual is tried.
type manual struct {
	*rig
	live string // the id of a request that runs
}

func newManual(t *testing.T) *manual {
	t.Helper()
	f := fixture{
		extra:     "admin: {listen: 127.0.0.1:0, token_file: admin.token}\nplans: {free: {limits: [{name: key-qps, per: [key], requests: 2/s}]}}\n",
		keys:      someKeys,
		limits:    "  - {name: slots, per: [key], concurrency: 20}\n  - {name: tpm, per: [key], tokens: 1000000/m}\n",
		upstreams: "  - {name: hosted, url: \"http://127.0.0.1:1/v1\", keys: {list: [{key: sk-pool-0123456789abcdef}]}}\n",
		model:     "tokens=3",
		prepare:   filesOfPages,
	}
	return &manual{rig: start(t, f)}
}

// try runs the commands of a block, or compares what it shows with what is printed.
func (m *manual) try(b block) {
	m.t.Helper()
	if b.lang == "" {
		m.compare(b)
		return
	}
	var run []string
	for command := range strings.SplitSeq(strings.TrimSpace(strings.ReplaceAll(b.text, "\\\n  ", "\x00")), "\n") {
		for part := range strings.SplitSeq(command, "\x00") {
			if !m.elsewhere(b, part) {
				run = append(run, part)
			}
		}
	}
	if len(run) > 0 {
		m.run(b, strings.Join(run, "\n"))
	}
}

var (
	makeTarget = regexp.MustCompile(`^make ([a-z-]+)`)
	// upCommand starts a weir, as newManual has.
	upCommand = regexp.MustCompile(`^(bin/)?weir up( |$)`)
)

// elsewhere tells whether a command is tried by another test, and fails if it is not.
func (m *manual) elsewhere(b block, command string) bool {
	m.t.Helper()
	if strings.HasPrefix(command, "#") || upCommand.MatchString(command) {
		return true
	}
	file, shows := "", ""
	if found := makeTarget.FindStringSubmatch(command); found != nil {
		file, shows = "../Makefile", "\n"+found[1]+":"
	}
	for begin, where := range elsewhere {
		if strings.HasPrefix(command, begin) {
			file, shows = where.file, where.shows
		}
	}
	if file == "" {
		return false
	}
	if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), shows) {
		m.t.Errorf("%v: %q is not in %s, %v", b, shows, file, err)
	}
	return true
}

// run runs commands as they stand, but for addresses, secrets and ids.
func (m *manual) run(b block, script string) {
	m.t.Helper()
	if strings.Contains(script, "REQUEST-ID") {
		resp, err := m.send(m.t.Context(), http.MethodPost, "/v1/chat/completions", chat(`"stream":true`), "x-simulate", "tokens=1000,pace=50ms")
		if err != nil {
			m.t.Fatal(err)
		}
		m.live = resp.Header.Get("x-request-id")
		m.t.Cleanup(func() { resp.Body.Close() })
	}
	host := strings.TrimPrefix(m.URL, "http://")
	script = strings.NewReplacer(
		"127.0.0.1:8080", host, "127.0.0.1:8001", host, "http://127.0.0.1:9090", m.Admin, "sk-weir-…", goodKey, "REQUEST-ID", m.live, "[--force]", "--force", "bin/weir", "weir",
		"weir top ", "weir top -n 1 ", // it would go on
	).Replace(script)
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", `weir() { "$WEIR" "$@"; }`+"\n"+script)
	cmd.Dir = m.Dir
	cmd.Env = append(os.Environ(), "WEIR="+binary, "KEY="+goodKey)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), `"code":"`) { // an error of the admin API
		m.t.Errorf("%v: %v\n%s\n%s", b, err, script, out)
	}
}

// columns is the head of a table.
var columns = regexp.MustCompile(`(?m)^[A-Z][A-Z ]+$`)

// printed is what prints the tables of a page.
var printed = map[string][]string{"admin.md": {"top", "-n", "1"}, "usage.md": {"usage"}}

// compare looks for the heads of the tables that a block shows in what is printed; the
// README's block is what weir up says.
func (m *manual) compare(b block) {
	m.t.Helper()
	if b.page == "README.md" {
		for line := range strings.Lines(b.text) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
			if word != "" && word != "…" && word != "Model" && word != "Key" && !strings.HasPrefix(word, "-") && !strings.Contains(m.Stdout(), word) {
				m.t.Errorf("%v: weir up does not say %q:\n%s", b, word, m.Stdout())
			}
		}
		return
	}
	args := printed[b.page]
	if args == nil {
		m.t.Errorf("%v: nothing here knows who prints that", b)
		return
	}
	if got := m.post(chat()); got.status != http.StatusOK {
		m.t.Fatalf("status %d", got.status)
	}
	m.eventually("the ledger has it", func() bool { return len(m.records()) > 0 })
	stream, err := m.send(m.t.Context(), http.MethodPost, "/v1/chat/completions", chat(`"stream":true`), "x-simulate", "tokens=1000,pace=50ms")
	if err != nil {
		m.t.Fatal(err)
	}
	defer stream.Body.Close()
	out, err := m.weir(args...)
	if err != nil {
		m.t.Errorf("%v: %v", b, err)
	}
	heads := map[string]bool{}
	for line := range strings.Lines(out) {
		heads[strings.Join(strings.Fields(line), " ")] = true
	}
	shown := columns.FindAllString(b.text, -1)
	for _, head := range shown {
		if !heads[strings.Join(strings.Fields(head), " ")] {
			m.t.Errorf("%v: weir %s prints no %q, but\n%s", b, strings.Join(args, " "), head, slices.Sorted(maps.Keys(heads)))
		}
	}
	if len(shown) == 0 {
		m.t.Errorf("%v: there is nothing to compare", b)
	}
}

// TestLinks follows the links of the pages to files and to headings.
func TestLinks(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading := regexp.MustCompile(`(?m)^#+ (.+)$`)
	notInAnchor := regexp.MustCompile(`[^a-z0-9 _-]`)
	anchors := func(file string) map[string]bool {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, h := range heading.FindAllStringSubmatch(string(text), -1) {
			found[strings.ReplaceAll(notInAnchor.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-")] = true
		}
		return found
	}
	for _, page := range append(pages(t), "../ARCHITECTURE.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			file := page
			if target != "" {
				file = filepath.Join(filepath.Dir(page), target)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s: %v", page, err)
			} else if anchor != "" && !anchors(file)[anchor] {
				t.Errorf("%s: %s has no heading #%s", page, file, anchor)
			}
		}
	}
}
