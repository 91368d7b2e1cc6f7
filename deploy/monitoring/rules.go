package main

import (
	"bytes"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Severities of alerts: critical wakes somebody up, warning is for the next morning.
const (
	critical = "critical"
	warning  = "warning"
)

// runbook is where each alert is explained; its headings are the alerts' names.
const runbook = "docs/monitoring.md"

// rule is a rule of Prometheus, in the form of its rule files.
type rule struct {
	Record      string            `yaml:"record,omitempty"`
	Alert       string            `yaml:"alert,omitempty"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for,omitempty"`
	Labels      map[string]string `yaml:"labels,omitempty"`
	Annotations map[string]string `yaml:"annotations,omitempty"`
}

type group struct {
	Name  string `yaml:"name"`
	Rules []rule `yaml:"rules"`
}

func ruleFile() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("# Written by deploy/monitoring: make monitoring. docs/monitoring.md explains each alert.\n")
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(map[string][]group{"groups": groups()}); err != nil {
		return nil, fmt.Errorf("write the rules: %w", err)
	}
	return b.Bytes(), nil
}

func groups() []group {
	return []group{
		{Name: "weir-recordings", Rules: recordings()},
		{Name: "weir-service", Rules: serviceAlerts()},
		{Name: "weir-parts", Rules: partAlerts()},
		{Name: "weir-envoy", Rules: envoyAlerts()},
	}
}

// recordings are what dashboards and alerts ask for again and again. Failures are
// answers with a status of 500 or more: a refusal by a limit is none.
func recordings() []rule {
	list := []rule{
		record("weir:http_requests:rate5m", `sum by (endpoint, status) (rate(http_requests_total[5m]))`),
		record("weir:token_usage:rate5m", `sum by (model, kind) (rate(token_usage_total[5m]))`),
		record("weir:time_to_first_token_seconds:p95_5m", quantile(.95, "weir_time_to_first_token_seconds", "5m", "model")),
		record("weir:overhead_seconds:p99_5m", quantile(.99, "weir_overhead_seconds", "5m")),
	}
	for _, window := range []string{"5m", "30m", "1h", "6h"} {
		list = append(list, record("weir:http_failures:ratio"+window,
			fmt.Sprintf(`sum(rate(http_requests_total{status=~"5.."}[%[1]s])) / sum(rate(http_requests_total[%[1]s]))`, window)))
	}
	return list
}

func record(name, expr string) rule { return rule{Record: name, Expr: expr} }

// quantile is a quantile of a histogram with classic buckets, over all replicas.
func quantile(q float64, metric, window string, by ...string) string {
	labels := strings.Join(append([]string{"le"}, by...), ", ")
	return fmt.Sprintf("histogram_quantile(%v, sum by (%s) (rate(%s_bucket[%s])))", q, labels, metric, window)
}

func alert(name, severity, expr, wait, summary string) rule {
	return rule{
		Alert: name, Expr: expr, For: wait, Labels: map[string]string{"severity": severity},
		Annotations: map[string]string{"summary": summary, "runbook": runbook + "#" + anchor(name)},
	}
}

// anchor is how a heading is linked to.
func anchor(heading string) string { return strings.ToLower(heading) }

// serviceAlerts are what clients feel. The objective is that 999 of 1000 requests do not
// fail; the alerts tell how fast what is left of that is used up, see
// https://sre.google/workbook/alerting-on-slos/.
func serviceAlerts() []rule {
	return []rule{
		alert("WeirDown", critical, `up{job="weir"} == 0`, "1m", "weir at {{ $labels.instance }} cannot be scraped."),
		alert("WeirFailuresFast", critical, `weir:http_failures:ratio5m > 14.4 * 0.001 and weir:http_failures:ratio1h > 14.4 * 0.001`, "2m",
			"{{ $value | humanizePercentage }} of requests failed in the last 5 minutes."),
		alert("WeirFailuresSlow", warning, `weir:http_failures:ratio30m > 6 * 0.001 and weir:http_failures:ratio6h > 6 * 0.001`, "15m",
			"{{ $value | humanizePercentage }} of requests failed in the last 30 minutes, and it has been so for hours."),
		alert("WeirSlowFirstToken", warning, `weir:time_to_first_token_seconds:p95_5m > 10`, "10m",
			"One in 20 answers of {{ $labels.model }} begins after {{ $value | humanizeDuration }} or later."),
		alert("WeirSlow", warning, `weir:overhead_seconds:p99_5m > 0.01`, "10m",
			"weir itself takes {{ $value | humanizeDuration }} for one request in 100."),
		alert("WeirStreamsCut", warning, `sum(rate(weir_exchanges_settled_total{outcome="cut"}[10m])) / sum(rate(weir_exchanges_settled_total[10m])) > 0.02`, "10m",
			"{{ $value | humanizePercentage }} of answers end before they are complete."),
		alert("WeirManyRefusals", warning, `sum(weir:http_requests:rate5m{status="429"}) / sum(weir:http_requests:rate5m) > 0.2`, "15m",
			"{{ $value | humanizePercentage }} of requests are refused by a limit."),
	}
}

// partAlerts are about what weir works with.
func partAlerts() []rule {
	return []rule{
		alert("WeirUpstreamDown", critical, `weir_upstream_up == 0`, "2m", "The upstream {{ $labels.upstream }} does not answer {{ $labels.instance }}."),
		alert("WeirUpstreamWithoutKeys", critical, `weir_upstream_keys_usable == 0`, "1m", "No key of the upstream {{ $labels.upstream }} can be used."),
		alert("WeirUpstreamKeyQuarantined", warning, `max by (upstream) (weir_upstream_keys{state="quarantined"}) > 0`, "5m",
			"{{ $value }} keys of the upstream {{ $labels.upstream }} are rejected or have no money left."),
		alert("WeirStoreAway", critical, `weir_store_away == 1`, "1m", "{{ $labels.instance }} counts limits without Redis."),
		alert("WeirStoreForgot", warning, `increase(weir_store_owed_dropped_total[15m]) > 0`, "", "{{ $labels.instance }} forgot exchanges that Redis was to be told of."),
		alert("WeirLeasesLost", warning, `increase(weir_leases_lost_total[15m]) > 0`, "", "Redis had lost slots of live requests; they were put back."),
		alert("WeirLedgerLost", critical, `increase(weir_ledger_lines_lost_total[15m]) > 0`, "", "{{ $labels.instance }} lost lines of the usage ledger."),
		alert("WeirCountsEstimated", warning,
			`sum(rate(weir_exchanges_settled_total{outcome="ok",source!="exact"}[30m])) / sum(rate(weir_exchanges_settled_total{outcome="ok"}[30m])) > 0.05`, "30m",
			"{{ $value | humanizePercentage }} of complete answers came without usage of their upstream."),
		alert("WeirKeysStale", warning, `weir_keys_stale == 1`, "5m", "The newest key files are not in force at {{ $labels.instance }}."),
		alert("WeirUpstreamKeysStale", warning, `weir_upstream_keys_stale == 1`, "5m", "The newest key file of the upstream {{ $labels.upstream }} is not in force at {{ $labels.instance }}."),
		alert("WeirConfigStale", warning, `weir_config_stale == 1`, "5m", "The newest weir.yaml is not in force at {{ $labels.instance }}."),
		alert("WeirMetricsFolded", warning, `increase(weir_metrics_folded_total[1h]) > 0`, "", "{{ $labels.instance }} has more models, upstreams or limits than its metrics tell apart."),
	}
}

// envoyAlerts are about Envoy, whose metrics come by way of weir.
func envoyAlerts() []rule {
	return []rule{
		alert("WeirEnvoyDown", critical, `up{job="envoy"} == 0 and on (instance) up{job="weir"} == 1`, "1m", "weir at {{ $labels.instance }} does not reach its Envoy."),
		alert("WeirEnvoyAsksInVain", critical,
			`rate(envoy_http_ext_authz_error[5m]) > 0 or rate(envoy_http_ext_proc_streams_failed[5m]) > 0 or rate(envoy_http_ext_proc_message_timeouts[5m]) > 0`, "2m", "Envoy at {{ $labels.instance }} asks weir and gets no answer."),
		alert("WeirEnvoyOverloaded", critical, `envoy_overload_envoy_overload_actions_stop_accepting_requests_active == 1`, "1m", "Envoy at {{ $labels.instance }} refuses requests, for want of memory."),
		alert("WeirEnvoyConfigRejected", critical,
			`increase(envoy_cluster_manager_cds_update_rejected[15m]) > 0 or increase(envoy_http_rds_update_rejected[15m]) > 0`, "", "Envoy at {{ $labels.instance }} rejected what weir generated."),
		alert("WeirCertificateExpires", warning, `envoy_server_days_until_first_cert_expiring < 14`, "1h", "A certificate of {{ $labels.instance }} expires in {{ $value }} days."),
	}
}
