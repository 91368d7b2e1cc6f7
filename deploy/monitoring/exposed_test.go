package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/weir-gateway/weir/e2e/site"
	"github.com/weir-gateway/weir/ratelimit/redistest"
	"github.com/weir-gateway/weir/simulator"
)

// exposed are the metrics of running weirs and their Envoys, and the values that each of
// their labels has.
type exposed map[string]map[string]map[string]bool

func (e exposed) add(metric, label, value string) {
	if e[metric] == nil {
		e[metric] = map[string]map[string]bool{}
	}
	if label == "" {
		return
	}
	if e[metric][label] == nil {
		e[metric][label] = map[string]bool{}
	}
	e[metric][label][value] = true
}

// scrape adds what a page of metrics has, under the names that series have in Prometheus.
func (e exposed) scrape(t *testing.T, url, job string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s: %v", url, resp.Status, err)
	}
	textParser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := textParser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	for name, f := range families {
		names := []string{name}
		if f.GetType() == dto.MetricType_HISTOGRAM {
			names = []string{name + "_bucket", name + "_sum", name + "_count"}
			e.add(name+"_bucket", "le", "")
		}
		for _, n := range names {
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					e.add(n, l.GetName(), l.GetValue())
				}
			}
			e.scraped(n, job)
		}
	}
	e.scraped("up", job)
}

// scraped adds the labels that Prometheus gives each series.
func (e exposed) scraped(metric, job string) {
	e.add(metric, "job", job)
	e.add(metric, "instance", "")
}

// running starts weirs, has them meet what there is to count, and scrapes them.
func running(t *testing.T) exposed {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "weir")
	// In the module of weir itself: this one has other versions of what it needs.
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-C", "../..", "-o", binary, "./cmd/weir").CombinedOutput(); err != nil {
		t.Fatalf("build weir: %v\n%s", err, out)
	}
	redis := redistest.Start(t)
	e := exposed{}
	for name, store := range map[string]string{"memory": "", "redis": fmt.Sprintf("store: {redis: {url: %q, timeout: 1s}}\n", redis.URL())} {
		s, run := startSite(t, binary, filepath.Join(dir, name), store)
		traffic(t, s)
		if name == "redis" {
			redis.Stop()
			ask(t, s, "m", "")
		}
		e.scrape(t, s.Metrics, "weir")
		e.scrape(t, s.Metrics+"/envoy", "envoy")
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		os.RemoveAll(run)
	}
	return e
}

const clientKey = "sk-test-monitoring-0123456789abcdef"

func startSite(t *testing.T, binary, dir, store string) (s *site.Site, run string) {
	t.Helper()
	sim := simulator.New(simulator.Options{
		Models: []simulator.Model{{Name: "m", Script: simulator.Script{Tokens: 80}}, {Name: "p", Script: simulator.Script{Tokens: 5}}},
		Keys: map[string]func(int64) string{
			"sk-upstream-poor-00000000": func(int64) string { return "fail=status:402" },
			"sk-upstream-rich-00000000": func(int64) string { return "" },
		},
	})
	upstream := httptest.NewServer(sim)
	t.Cleanup(upstream.Close)
	run, err := os.MkdirTemp("", "weir-run-") // short enough for sockets
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"keys.yaml": "keys:\n  - {id: good, user: ann, secret: " + clientKey + "}\n  - {id: poor, user: bob, secret: " + clientKey + "-poor, limits: [{name: few, per: [key], requests: 1/h}]}\n",
		"pool.txt":  "sk-upstream-poor-00000000 poor\nsk-upstream-rich-00000000 rich\n",
		"weir.yaml": fmt.Sprintf(`listen: 127.0.0.1:0
run_dir: %s
metrics: {listen: 127.0.0.1:0}
keys: {files: [keys.yaml]}
ledger: {file: usage.jsonl}
%supstreams:
  - {name: sim, url: "%[3]s/v1", key: sk-upstream-rich-00000000}
  - name: pool
    url: "%[3]s/v1"
    keys: {file: pool.txt}
models:
  - {name: m, upstreams: [sim], context: 100000}
  - {name: p, upstreams: [pool], context: 100000}
limits:
  - {name: trial, requests: 1/h, shadow: true}
`, run, store, upstream.URL),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if s, err = site.Start(t.Context(), binary, dir, nil); err != nil {
		t.Fatal(err)
	}
	return s, run
}

// traffic has everything counted that the expressions ask for.
func traffic(t *testing.T, s *site.Site) {
	t.Helper()
	for range 12 { // streams are metered natively after some
		ask(t, s, "m", "", `"stream":true`)
	}
	ask(t, s, "m", "")
	ask(t, s, "p", "")
	ask(t, s, "m", "fail=status:500")
	ask(t, s, "m", "usage=never")
	ask(t, s, "m", "fail=reset:9", `"stream":true`)
	ask(t, s, "m:poor", "")
	ask(t, s, "m:poor", "")
	leave(t, s)
	// The ledger's line is an exchange's last trace.
	const exchanges = 20
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		n := 0
		if err := site.Lines(filepath.Join(s.Dir, "usage.jsonl"), func([]byte) error { n++; return nil }); err == nil && n == exchanges {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("the ledger has %d lines, want %d", n, exchanges)
		}
	}
}

// ask sends a request and reads what comes of it.
func ask(t *testing.T, s *site.Site, modelName, script string, members ...string) {
	t.Helper()
	resp := send(t.Context(), t, s, modelName, script, members...)
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body) // which may be broken off
}

func send(ctx context.Context, t *testing.T, s *site.Site, modelName, script string, members ...string) *http.Response {
	t.Helper()
	modelName, poor := strings.CutSuffix(modelName, ":poor")
	body := `{"model":"` + modelName + `","messages":[{"role":"user","content":"` + strings.Repeat("say more of it, ", 40) + `"}]`
	for _, m := range members {
		body += "," + m
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/v1/chat/completions", strings.NewReader(body+"}"))
	if err != nil {
		t.Fatal(err)
	}
	secret := clientKey
	if poor {
		secret += "-poor"
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Simulate", script)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// leave hangs up in the middle of an answer.
func leave(t *testing.T, s *site.Site) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	resp := send(ctx, t, s, "m", "tokens=500,pace=10ms", `"stream":true`)
	defer resp.Body.Close()
	if _, err := resp.Body.Read(make([]byte, 100)); err != nil {
		t.Error(err)
	}
}

// TestExpressions parses every expression of dashboards and rules, and looks for the
// metrics, labels and values in what running weirs expose.
func TestExpressions(t *testing.T) {
	e := running(t)
	expressions := 0
	check := func(where, expr string) {
		t.Helper()
		expressions++
		for _, problem := range e.problems(expr) {
			t.Errorf("%s: %s: %s", where, problem, expr)
		}
	}
	// Recordings come first: other rules and dashboards use them.
	rules, errs := rulefmt.ParseFile("rules/weir.yml", false, model.UTF8Validation, newParser(), slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			check(g.Name+" "+r.Record+r.Alert, r.Expr)
			if r.Record != "" {
				e.record(t, r.Record, r.Expr)
			}
		}
	}
	for _, b := range boardFiles(t) {
		for _, p := range b.Panels {
			for _, q := range p.Targets {
				check(b.UID+": "+p.Title, filled(q.Expr))
			}
		}
	}
	check("the dashboards' variable", strings.TrimSuffix(strings.TrimPrefix(instanceQuery, "label_values("), ", instance)"))
	if expressions < 90 {
		t.Errorf("only %d expressions were looked at", expressions)
	}
}

// TestProblems: what is wrong is found.
func TestProblems(t *testing.T) {
	e := exposed{}
	e.add("m_total", "state", "good")
	e.add("h_bucket", "le", "")
	for expr, want := range map[string]string{
		`sum(rate(m_total[5m]))`:                                   "",
		`m_total{state="good"} > 0`:                                "",
		`sum by (state) (m_total)`:                                 "",
		`m_total{state=~"bad|worse"}`:                              "no series of m_total has a state that",
		`histogram_quantile(.9, sum by (le) (rate(h_bucket[5m])))`: "",
		`sum(rate(m_totl[5m]))`:                                    "nobody exposes m_totl",
		`m_total{stat="good"}`:                                     "m_total has no label stat",
		`m_total{state="bad"}`:                                     "no series of m_total has a state that",
		`sum by (code) (m_total)`:                                  "nothing below has the label code",
		`m_total and on (code) h_bucket`:                           "nothing below has the label code",
		`sum(m_total`:                                              "parse error",
		`{state="good"}`:                                           "without a metric",
	} {
		got := strings.Join(e.problems(expr), "; ")
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
}

func newParser() parser.Parser { return parser.NewParser(parser.Options{}) }

// filled has Grafana's variables replaced, as it does.
func filled(expr string) string {
	return strings.NewReplacer("$instance", ".*", "$__rate_interval", "1m").Replace(expr)
}

// problems are what an expression names that is not there.
func (e exposed) problems(expr string) (list []string) {
	tree, err := newParser().ParseExpr(expr)
	if err != nil {
		return []string{err.Error()}
	}
	parser.Inspect(tree, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			list = append(list, e.unknown(n)...)
		case *parser.AggregateExpr:
			list = append(list, e.groupedBy(n.Expr, n.Grouping)...)
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				list = append(list, e.groupedBy(n, n.VectorMatching.MatchingLabels)...)
			}
		}
		return nil
	})
	return list
}

// unknown are what a selector names that is not there.
func (e exposed) unknown(s *parser.VectorSelector) (list []string) {
	if s.Name == "" {
		return []string{"a selector without a metric"}
	}
	have, ok := e[s.Name]
	if !ok {
		return []string{"nobody exposes " + s.Name}
	}
	for _, m := range s.LabelMatchers {
		if m.Name == model.MetricNameLabel {
			continue
		}
		values, ok := have[m.Name]
		if !ok {
			list = append(list, s.Name+" has no label "+m.Name)
			continue
		}
		matches := false
		for v := range values {
			matches = matches || m.Matches(v)
		}
		if !matches {
			list = append(list, "no series of "+s.Name+" has a "+m.Name+" that is "+m.String())
		}
	}
	return list
}

// groupedBy are labels that no selector below has.
func (e exposed) groupedBy(below parser.Node, by []string) (list []string) {
	for _, label := range by {
		found := false
		parser.Inspect(below, func(node parser.Node, _ []parser.Node) error {
			if s, ok := node.(*parser.VectorSelector); ok {
				_, has := e[s.Name][label]
				found = found || has
			}
			return nil
		})
		if !found {
			list = append(list, "nothing below has the label "+label)
		}
	}
	return list
}

// record adds what a recording makes, with the labels that it is summed by.
func (e exposed) record(t *testing.T, name, expr string) {
	t.Helper()
	e.add(name, "", "")
	tree, err := newParser().ParseExpr(expr)
	if err != nil {
		return // which was told
	}
	parser.Inspect(tree, func(node parser.Node, _ []parser.Node) error {
		sum, ok := node.(*parser.AggregateExpr)
		if !ok {
			return nil
		}
		parser.Inspect(sum.Expr, func(node parser.Node, _ []parser.Node) error {
			s, ok := node.(*parser.VectorSelector)
			if !ok {
				return nil
			}
			for _, label := range sum.Grouping {
				for value := range e[s.Name][label] {
					if label != "le" {
						e.add(name, label, value)
					}
				}
			}
			return nil
		})
		return nil
	})
}
