package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
)

// alertCase is what Prometheus is to make of some series.
type alertCase struct {
	alert  string
	name   string
	series string        // samples, a minute apart, as promqltest writes them
	at     time.Duration // when it is looked
	fires  []string      // labels of the alerts that fire, without those of every alert
	about  string        // is in the summary of the first
}

// TestAlerts has Prometheus' own engine evaluate the rules as they are on the disk. For
// each alert there is a case in which it fires, and one in which it does not.
func TestAlerts(t *testing.T) {
	fired, quiet := map[string]bool{}, map[string]bool{}
	for _, tt := range alertCases() {
		t.Run(tt.alert+" "+tt.name, func(t *testing.T) {
			got, summaries := evaluate(t, tt)
			if !slices.Equal(got, tt.fires) {
				t.Errorf("fires %q, want %q", got, tt.fires)
			}
			if tt.about != "" && !strings.Contains(summaries, tt.about) {
				t.Errorf("summaries %q, want %q", summaries, tt.about)
			}
		})
		if tt.fires != nil {
			fired[tt.alert] = true
		} else {
			quiet[tt.alert] = true
		}
	}
	for _, g := range groups() {
		for _, r := range g.Rules {
			if r.Alert != "" && (!fired[r.Alert] || !quiet[r.Alert]) {
				t.Errorf("%s: it fires in a case: %v; it does not in another: %v", r.Alert, fired[r.Alert], quiet[r.Alert])
			}
		}
	}
}

// evaluate tells which alerts of that name fire at the end, and all that they say.
func evaluate(t *testing.T, tt alertCase) (fires []string, summaries string) {
	t.Helper()
	store := promqltest.LoadedStorage(t, "load 1m\n"+tt.series)
	t.Cleanup(func() { _ = store.Close() })
	engine := promqltest.NewTestEngine(t, false, 0, 1e6)
	manager := rules.NewManager(&rules.ManagerOptions{
		QueryFunc: rules.EngineQueryFunc(engine, store), AppendableV2: store, Queryable: store, Context: t.Context(),
		NotifyFunc: func(context.Context, string, ...*rules.Alert) {}, Logger: slog.New(slog.DiscardHandler), Parser: newParser(),
	})
	loaded, errs := manager.LoadGroups(time.Minute, labels.EmptyLabels(), "", nil, false, "rules/weir.yml")
	for _, err := range errs {
		t.Fatal(err)
	}
	byName := map[string]*rules.Group{}
	for _, g := range loaded {
		byName[g.Name()] = g
	}
	start := time.Unix(0, 0).UTC()
	for now := start; !now.After(start.Add(tt.at)); now = now.Add(time.Minute) {
		for _, g := range groups() { // in their order
			byName[g.Name].Eval(t.Context(), now)
		}
	}
	for _, g := range byName {
		for _, r := range g.Rules() {
			if r.LastError() != nil {
				t.Errorf("%s: %v", r.Name(), r.LastError())
			}
			a, ok := r.(*rules.AlertingRule)
			if !ok || a.Name() != tt.alert {
				continue
			}
			for _, active := range a.ActiveAlerts() {
				if active.State != rules.StateFiring {
					continue
				}
				own := labels.NewBuilder(active.Labels).Del("alertname", "severity", "job", "instance", "__name__").Labels()
				fires = append(fires, own.String())
				summaries += active.Annotations.Get("summary")
			}
		}
	}
	slices.Sort(fires)
	return fires, summaries
}

// TestRunbook: every alert is explained, and nothing else is.
func TestRunbook(t *testing.T) {
	text, err := os.ReadFile("../../" + runbook)
	if err != nil {
		t.Fatal(err)
	}
	want, got := map[string]bool{}, map[string]bool{}
	for _, g := range groups() {
		for _, r := range g.Rules {
			if r.Alert != "" {
				want[r.Alert] = true
			}
		}
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "### "); ok {
			got[strings.TrimSpace(name)] = true
		}
	}
	if !maps.Equal(want, got) {
		t.Errorf("%s explains %q, there are %q", runbook, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

// only is the label set of an alert without labels of its own.
var only = []string{"{}"}

// steady is a series that stays as it is for hours.
func steady(series string, value any) string { return fmt.Sprintf("  %s %v+0x500\n", series, value) }

// growing grows by that much a minute.
func growing(series string, step any) string { return fmt.Sprintf("  %s 0+%vx500\n", series, step) }

// later changes from one value to another after some minutes.
func later(series string, before any, minutes int, after any) string {
	return fmt.Sprintf("  %s %v+0x%d %v+0x500\n", series, before, minutes-1, after)
}

const replica = `job="weir",instance="w:9091"`

// answers has a share of a thousand requests a minute fail.
func answers(of1000 int) string {
	return growing(`http_requests_total{endpoint="chat_completions",status="200",`+replica+`}`, 1000-of1000) +
		growing(`http_requests_total{endpoint="chat_completions",status="503",`+replica+`}`, of1000)
}

// endings has exchanges end: so many of a hundred with the labels, the others well.
func endings(of100 int, labels string) string {
	return growing(`weir_exchanges_settled_total{`+labels+`,`+replica+`}`, of100) +
		growing(`weir_exchanges_settled_total{outcome="ok",source="exact",`+replica+`}`, 100-of100)
}

// took has a hundred observations a minute at or below a bound, of a histogram with one
// bound more.
func took(metric, labels string, bounds ...string) string {
	var b strings.Builder
	for _, le := range bounds {
		b.WriteString(growing(fmt.Sprintf(`%s_bucket{le=%q,%s%s}`, metric, le, labels, replica), 0))
	}
	b.WriteString(growing(fmt.Sprintf(`%s_bucket{le="60",%s%s}`, metric, labels, replica), 100))
	b.WriteString(growing(fmt.Sprintf(`%s_bucket{le="+Inf",%s%s}`, metric, labels, replica), 100))
	return b.String()
}

func alertCases() []alertCase {
	up := func(job string, v any) string { return steady(`up{job="`+job+`",instance="w:9091"}`, v) }
	gauge := func(name, labels string, v any) string { return steady(name+`{`+labels+replica+`}`, v) }
	count := func(name string, before, after int) string { return later(name+`{`+replica+`}`, before, 30, after) }
	const soon = 5 * time.Minute
	return []alertCase{
		{"WeirDown", "gone", up("weir", 0), soon, only, "w:9091"},
		{"WeirDown", "there", up("weir", 1), soon, nil, ""},
		{"WeirDown", "one scrape failed", later(`up{job="weir",instance="w:9091"}`, 1, 5, 0), soon, nil, ""},

		{"WeirFailuresFast", "two of a hundred", answers(20), 70 * time.Minute, only, "2%"},
		{"WeirFailuresFast", "one of a hundred", answers(10), 70 * time.Minute, nil, ""},
		{"WeirFailuresSlow", "one of a hundred", answers(10), 400 * time.Minute, only, "1%"},
		{"WeirFailuresSlow", "one of a thousand", answers(1), 400 * time.Minute, nil, ""},
		{"WeirManyRefusals", "half", growing(`http_requests_total{endpoint="embeddings",status="429",`+replica+`}`, 50) +
			growing(`http_requests_total{endpoint="embeddings",status="200",`+replica+`}`, 50), 40 * time.Minute, only, "50%"},
		{"WeirManyRefusals", "few", growing(`http_requests_total{endpoint="embeddings",status="429",`+replica+`}`, 5) +
			growing(`http_requests_total{endpoint="embeddings",status="200",`+replica+`}`, 50), 40 * time.Minute, nil, ""},

		{"WeirSlowFirstToken", "half a minute", took("weir_time_to_first_token_seconds", `model="m",`, "10", "30"), 30 * time.Minute, []string{`{model="m"}`}, "of m begins after 58.5s"},
		{"WeirSlowFirstToken", "at once", took("weir_time_to_first_token_seconds", `model="m",`) +
			growing(`weir_time_to_first_token_seconds_bucket{le="1",model="m",`+replica+`}`, 100), 30 * time.Minute, nil, ""},
		{"WeirSlow", "long", took("weir_overhead_seconds", "", "0.01", "0.5"), 30 * time.Minute, only, "for one request in 100"},
		{"WeirSlow", "as it should", took("weir_overhead_seconds", "") +
			growing(`weir_overhead_seconds_bucket{le="0.001",`+replica+`}`, 100), 30 * time.Minute, nil, ""},
		{"WeirStreamsCut", "some", endings(5, `outcome="cut",source="estimated"`), 30 * time.Minute, only, "5%"},
		{"WeirStreamsCut", "few", endings(1, `outcome="cut",source="estimated"`), 30 * time.Minute, nil, ""},
		{"WeirStreamsCut", "clients leave", endings(50, `outcome="aborted",source="estimated"`), 30 * time.Minute, nil, ""},
		{"WeirCountsEstimated", "some", endings(10, `outcome="ok",source="estimated"`), 80 * time.Minute, only, "10%"},
		{"WeirCountsEstimated", "aborted ones", endings(50, `outcome="aborted",source="estimated"`), 80 * time.Minute, nil, ""},

		{"WeirUpstreamDown", "down", gauge("weir_upstream_up", `upstream="a",`, 0) + gauge("weir_upstream_up", `upstream="b",`, 1), soon, []string{`{upstream="a"}`}, "upstream a does not answer"},
		{"WeirUpstreamDown", "up", gauge("weir_upstream_up", `upstream="a",`, 1), soon, nil, ""},
		{"WeirUpstreamWithoutKeys", "none", gauge("weir_upstream_keys_usable", `upstream="a",`, 0), soon, []string{`{upstream="a"}`}, "upstream a"},
		{"WeirUpstreamWithoutKeys", "one", gauge("weir_upstream_keys_usable", `upstream="a",`, 1), soon, nil, ""},
		{"WeirUpstreamKeyQuarantined", "two", gauge("weir_upstream_keys", `upstream="a",state="quarantined",`, 2), 10 * time.Minute, []string{`{upstream="a"}`}, "2 keys of the upstream a"},
		{"WeirUpstreamKeyQuarantined", "cooling", gauge("weir_upstream_keys", `upstream="a",state="cooling",`, 2) + gauge("weir_upstream_keys", `upstream="a",state="quarantined",`, 0), 10 * time.Minute, nil, ""},
		{"WeirStoreAway", "away", gauge("weir_store_away", "", 1), soon, only, "w:9091"},
		{"WeirStoreAway", "there", gauge("weir_store_away", "", 0), soon, nil, ""},
		{"WeirStoreForgot", "some", count("weir_store_owed_dropped_total", 0, 7), 35 * time.Minute, only, ""},
		{"WeirStoreForgot", "long ago", count("weir_store_owed_dropped_total", 0, 7), 90 * time.Minute, nil, ""},
		{"WeirLeasesLost", "some", count("weir_leases_lost_total", 0, 7), 35 * time.Minute, only, ""},
		{"WeirLeasesLost", "long ago", count("weir_leases_lost_total", 0, 7), 90 * time.Minute, nil, ""},
		{"WeirLedgerLost", "some", count("weir_ledger_lines_lost_total", 0, 7), 35 * time.Minute, only, ""},
		{"WeirLedgerLost", "none", count("weir_ledger_lines_lost_total", 0, 0), 35 * time.Minute, nil, ""},
		{"WeirMetricsFolded", "some", count("weir_metrics_folded_total", 0, 7), 35 * time.Minute, only, ""},
		{"WeirMetricsFolded", "none", count("weir_metrics_folded_total", 0, 0), 35 * time.Minute, nil, ""},
		{"WeirKeysStale", "stale", gauge("weir_keys_stale", "", 1), 10 * time.Minute, only, ""},
		{"WeirKeysStale", "for a moment", later(`weir_keys_stale{`+replica+`}`, 1, 3, 0), 10 * time.Minute, nil, ""},
		{"WeirUpstreamKeysStale", "stale", gauge("weir_upstream_keys_stale", `upstream="a",`, 1) + gauge("weir_upstream_keys_stale", `upstream="b",`, 0), 10 * time.Minute, []string{`{upstream="a"}`}, "upstream a"},
		{"WeirUpstreamKeysStale", "in force", gauge("weir_upstream_keys_stale", `upstream="a",`, 0), 10 * time.Minute, nil, ""},
		{"WeirConfigStale", "stale", gauge("weir_config_stale", "", 1), 10 * time.Minute, only, ""},
		{"WeirConfigStale", "in force", gauge("weir_config_stale", "", 0), 10 * time.Minute, nil, ""},

		{"WeirEnvoyDown", "gone", up("weir", 1) + up("envoy", 0), soon, only, "w:9091"},
		{"WeirEnvoyDown", "weir is gone, which tells of it", up("weir", 0) + up("envoy", 0), soon, nil, ""},
		{"WeirEnvoyAsksInVain", "no answer of ext_authz", growing(`envoy_http_ext_authz_error{`+replica+`}`, 3), 10 * time.Minute, only, ""},
		{"WeirEnvoyAsksInVain", "no answer of ext_proc", growing(`envoy_http_ext_proc_streams_failed{`+replica+`}`, 3), 10 * time.Minute, only, ""},
		{"WeirEnvoyAsksInVain", "no answer of ext_proc in time", growing(`envoy_http_ext_proc_message_timeouts{`+replica+`}`, 3), 10 * time.Minute, only, ""},
		{"WeirEnvoyAsksInVain", "all is well", growing(`envoy_http_ext_authz_error{`+replica+`}`, 0), 10 * time.Minute, nil, ""},
		{"WeirEnvoyOverloaded", "no memory", gauge("envoy_overload_envoy_overload_actions_stop_accepting_requests_active", "", 1), soon, only, ""},
		{"WeirEnvoyOverloaded", "memory", gauge("envoy_overload_envoy_overload_actions_stop_accepting_requests_active", "", 0), soon, nil, ""},
		{"WeirEnvoyConfigRejected", "clusters", count("envoy_cluster_manager_cds_update_rejected", 1, 2), 35 * time.Minute, only, ""},
		{"WeirEnvoyConfigRejected", "routes", count("envoy_http_rds_update_rejected", 1, 2), 35 * time.Minute, only, ""},
		{"WeirEnvoyConfigRejected", "none", count("envoy_http_rds_update_rejected", 1, 1), 35 * time.Minute, nil, ""},
		{"WeirCertificateExpires", "in ten days", gauge("envoy_server_days_until_first_cert_expiring", "", 10), 70 * time.Minute, only, "in 10 days"},
		{"WeirCertificateExpires", "there is none", gauge("envoy_server_days_until_first_cert_expiring", "", 4294967295), 70 * time.Minute, nil, ""},
	}
}
