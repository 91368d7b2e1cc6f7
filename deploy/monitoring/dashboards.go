package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

// board is a dashboard.
type board struct {
	uid, title, about string
	rows              []row
}

type row struct {
	title  string
	panels []panel
}

// panel is a graph, or a number.
type panel struct {
	title, about string
	unit         string
	number       bool // shows the newest value only
	stacked      bool
	signed       bool // may be below 0
	queries      []query
}

// query is an expression, and how its series are called.
type query struct{ expr, legend string }

// Parts of expressions: what was chosen at the top of the dashboard.
const (
	here  = `instance=~"$instance"`
	rated = "[$__rate_interval]"
)

// rate is the sum of a counter's rates by labels; "" is the total.
func rate(metric, by string, matchers ...string) string {
	where := strings.Join(append([]string{here}, matchers...), ",")
	if by == "" {
		return fmt.Sprintf("sum(rate(%s{%s}%s))", metric, where, rated)
	}
	return fmt.Sprintf("sum by (%s) (rate(%s{%s}%s))", by, metric, where, rated)
}

// quantiles are three quantiles of a histogram; with a label, one for each of its
// values.
func quantiles(metric string, by string, matchers ...string) (list []query) {
	if by != "" {
		return []query{{fmt.Sprintf("histogram_quantile(0.95, %s)", rate(metric+"_bucket", "le, "+by, matchers...)), "{{" + by + "}}"}}
	}
	for _, q := range []string{"0.5", "0.95", "0.99"} {
		list = append(list, query{fmt.Sprintf("histogram_quantile(%s, %s)", q, rate(metric+"_bucket", "le", matchers...)), "p" + q[2:]})
	}
	return list
}

// share is how much of a whole has a label.
func share(metric, part string, of ...string) string {
	return rate(metric, "", append([]string{part}, of...)...) + " / " + rate(metric, "", of...)
}

func dashboards() []board {
	return []board{overview(), models(), upstreams(), limits(), envoy()}
}

func overview() board {
	return board{uid: "weir-overview", title: "weir: overview", about: "What clients feel, and whether the parts are well.", rows: []row{
		{"Now", []panel{
			{title: "Requests", unit: units.RequestsPerSecond, number: true, queries: []query{{rate("http_requests_total", ""), ""}}},
			{title: "In flight", unit: units.Short, number: true, queries: []query{{"sum(http_active_requests{" + here + "})", ""}}},
			{title: "Failures", about: "Answers with a status of 500 or more.", unit: units.PercentUnit, number: true, queries: []query{{share("http_requests_total", `status=~"5.."`), ""}}},
			{title: "Refusals", about: "Requests over a limit.", unit: units.PercentUnit, number: true, queries: []query{{share("http_requests_total", `status="429"`), ""}}},
			{title: "Tokens a second", unit: units.Short, number: true, queries: []query{{rate("token_usage_total", ""), ""}}},
			{title: "Replicas", unit: units.Short, number: true, queries: []query{{"count by (version) (weir_build_info{" + here + "})", "{{version}}"}}},
		}},
		{"Traffic", []panel{
			{title: "Requests by endpoint", unit: units.RequestsPerSecond, stacked: true, queries: []query{{rate("http_requests_total", "endpoint"), "{{endpoint}}"}}},
			{title: "Requests by status", unit: units.RequestsPerSecond, stacked: true, queries: []query{{rate("http_requests_total", "status"), "{{status}}"}}},
			{title: "Errors by type", unit: units.RequestsPerSecond, stacked: true, queries: []query{{rate("http_errors_total", "type"), "{{type}}"}}},
			{
				title: "Outcomes of exchanges", about: "cut: the answer ended before it was complete. aborted: the client left.", unit: units.RequestsPerSecond, stacked: true,
				queries: []query{{rate("weir_exchanges_settled_total", "outcome"), "{{outcome}}"}},
			},
		}},
		{"Latency", []panel{
			{title: "Time to the first token", unit: units.Seconds, queries: quantiles("weir_time_to_first_token_seconds", "")},
			{title: "Duration of requests", unit: units.Seconds, queries: quantiles("http_request_duration_seconds", "")},
			{title: "Time spent in weir", about: "Before the request went to its upstream.", unit: units.Seconds, queries: quantiles("weir_overhead_seconds", "")},
			{title: "Requests in flight", unit: units.Short, stacked: true, queries: []query{{"http_active_requests{" + here + "}", "{{instance}}"}}},
		}},
		{"Parts", []panel{
			{title: "What is not well", about: "0 is well.", unit: units.Short, queries: []query{
				{"weir_keys_stale{" + here + "}", "key files stale {{instance}}"},
				{"weir_upstream_keys_stale{" + here + "}", "key file of {{upstream}} stale {{instance}}"},
				{"weir_config_stale{" + here + "}", "weir.yaml stale {{instance}}"},
				{"weir_store_away{" + here + "}", "Redis away {{instance}}"},
				{"1 - weir_upstream_up{" + here + "}", "{{upstream}} down {{instance}}"},
			}},
			{title: "Lost", about: "All of it should be nothing.", unit: units.Short, queries: []query{
				{"increase(weir_ledger_lines_lost_total{" + here + "}" + rated + ")", "ledger lines {{instance}}"},
				{"increase(weir_store_owed_dropped_total{" + here + "}" + rated + ")", "exchanges Redis was not told of {{instance}}"},
				{"increase(weir_leases_lost_total{" + here + "}" + rated + ")", "leases {{instance}}"},
			}},
			{title: "Memory", unit: units.BytesIEC, queries: []query{{"process_resident_memory_bytes{job=\"weir\"," + here + "}", "{{instance}}"}}},
			{title: "CPU", unit: units.Short, queries: []query{{"rate(process_cpu_seconds_total{job=\"weir\"," + here + "}" + rated + ")", "{{instance}}"}}},
		}},
	}}
}

func models() board {
	const request = "gen_ai_request_model"
	return board{uid: "weir-models", title: "weir: models and tokens", about: "What is used, and how fast models answer.", rows: []row{
		{"Use", []panel{
			{title: "Requests by model", unit: units.RequestsPerSecond, stacked: true, queries: []query{{rate("gen_ai_server_request_duration_seconds_count", request), "{{gen_ai_request_model}}"}}},
			{
				title: "Failures by model", unit: units.RequestsPerSecond, stacked: true,
				queries: []query{{rate("gen_ai_server_request_duration_seconds_count", request+", error_type", `error_type!=""`), "{{gen_ai_request_model}} {{error_type}}"}},
			},
			{title: "Prompt tokens a second", about: "As charged, estimates too.", unit: units.Short, stacked: true, queries: []query{{rate("token_usage_total", "model", `kind="prompt"`), "{{model}}"}}},
			{title: "Completion tokens a second", about: "As charged, estimates too.", unit: units.Short, stacked: true, queries: []query{{rate("token_usage_total", "model", `kind="completion"`), "{{model}}"}}},
		}},
		{"Speed", []panel{
			{title: "Time to the first token, 95 of 100", unit: units.Seconds, queries: quantiles("gen_ai_server_time_to_first_token_seconds", request)},
			{title: "Time for each further token, 95 of 100", unit: units.Seconds, queries: quantiles("gen_ai_server_time_per_output_token_seconds", request)},
			{title: "Duration of answers, 95 of 100", unit: units.Seconds, queries: quantiles("gen_ai_server_request_duration_seconds", request)},
			{title: "Tokens of an answer, 95 of 100", unit: units.Short, queries: quantiles("gen_ai_client_token_usage", request, `gen_ai_token_type="output"`)},
		}},
		{"Counting", []panel{
			{title: "What counts are worth", about: "exact is the upstream's own count.", unit: units.RequestsPerSecond, stacked: true, queries: []query{{rate("weir_exchanges_settled_total", "source"), "{{source}}"}}},
			{title: "Where answers are read", about: "native is inside of Envoy.", unit: units.RequestsPerSecond, stacked: true, queries: []query{{rate("weir_answers_metered_total", "metering"), "{{metering}}"}}},
			{title: "Estimates of prompts: error", unit: units.PercentUnit, signed: true, queries: quantiles("weir_estimate_error_ratio", "", `kind="prompt"`)},
			{title: "Estimates of completions: error", unit: units.PercentUnit, signed: true, queries: quantiles("weir_estimate_error_ratio", "", `kind="completion"`)},
		}},
	}}
}

func upstreams() board {
	return board{uid: "weir-upstreams", title: "weir: upstreams and their keys", about: "What answers, and with which keys.", rows: []row{
		{"Upstreams", []panel{
			{title: "Up", about: "1 is up.", unit: units.Short, queries: []query{{"min by (upstream) (weir_upstream_up{" + here + "})", "{{upstream}}"}}},
			{title: "Requests by upstream", unit: units.RequestsPerSecond, stacked: true, queries: []query{{rate("gen_ai_server_request_duration_seconds_count", "gen_ai_provider_name"), "{{gen_ai_provider_name}}"}}},
			{
				title: "Failures by upstream", unit: units.RequestsPerSecond, stacked: true,
				queries: []query{{rate("gen_ai_server_request_duration_seconds_count", "gen_ai_provider_name, error_type", `error_type!=""`), "{{gen_ai_provider_name}} {{error_type}}"}},
			},
			{
				title: "Connections that failed", unit: units.RequestsPerSecond,
				queries: []query{{rate("envoy_cluster_upstream_cx_connect_fail", "envoy_cluster_name", `envoy_cluster_name=~"upstream_.*"`), "{{envoy_cluster_name}}"}},
			},
		}},
		{"Keys", []panel{
			{title: "Keys that can be used", unit: units.Short, queries: []query{{"min by (upstream) (weir_upstream_keys_usable{" + here + "})", "{{upstream}}"}}},
			{title: "Keys by state", unit: units.Short, stacked: true, queries: []query{{"max by (upstream, state) (weir_upstream_keys{" + here + "})", "{{upstream}} {{state}}"}}},
			{title: "Changes of state", unit: units.Short, stacked: true, queries: []query{{rate("weir_upstream_key_changes_total", "upstream, state"), "{{upstream}} {{state}}"}}},
		}},
		{"Attempts", []panel{
			{title: "Attempts", unit: units.RequestsPerSecond, stacked: true, queries: []query{{rate("weir_upstream_attempts_total", "upstream"), "{{upstream}}"}}},
			{title: "Answers to attempts", unit: units.RequestsPerSecond, stacked: true, queries: []query{{rate("weir_upstream_attempts_answered_total", "upstream, outcome"), "{{upstream}} {{outcome}}"}}},
		}},
	}}
}

func limits() board {
	return board{uid: "weir-limits", title: "weir: limits and their store", about: "What is refused, and how Redis does.", rows: []row{
		{"Limits", []panel{
			{title: "Refusals by limit", unit: units.RequestsPerSecond, stacked: true, queries: []query{{rate("weir_limit_refusals_total", "limit"), "{{limit}}"}}},
			{title: "What shadow limits would refuse", unit: units.RequestsPerSecond, stacked: true, queries: []query{{rate("weir_limit_shadow_refusals_total", "limit"), "{{limit}}"}}},
			{title: "Exchanges that have not ended", unit: units.Short, stacked: true, queries: []query{{"weir_exchanges_live{" + here + "}", "{{instance}}"}}},
			{title: "Client keys in force", unit: units.Short, queries: []query{{"weir_keys{" + here + "}", "{{instance}}"}}},
		}},
		{"Redis", []panel{
			{title: "Away", about: "1 is away.", unit: units.Short, queries: []query{{"weir_store_away{" + here + "}", "{{instance}}"}}},
			{title: "Calls that failed", unit: units.RequestsPerSecond, queries: []query{{rate("weir_store_calls_failed_total", "op"), "{{op}}"}}},
			{title: "Decided without it", unit: units.RequestsPerSecond, queries: []query{{rate("weir_exchanges_decided_alone_total", "instance"), "{{instance}}"}}},
			{title: "Exchanges that it is to be told of", unit: units.Short, queries: []query{{"weir_store_owed_exchanges{" + here + "}", "{{instance}}"}}},
			{title: "Replicas that share it", unit: units.Short, queries: []query{{"weir_store_replicas{" + here + "}", "{{instance}}"}}},
		}},
		{"Memory", []panel{
			{title: "Slots taken", about: "Of weirs that count in memory.", unit: units.Short, queries: []query{{"weir_leases_held{" + here + "}", "{{instance}}"}}},
		}},
	}}
}

func envoy() board {
	const public = `envoy_http_conn_manager_prefix="public"`
	return board{uid: "weir-envoy", title: "weir: Envoy", about: "The proxy in front.", rows: []row{
		{"Clients", []panel{
			{title: "Connections", unit: units.Short, stacked: true, queries: []query{{"envoy_http_downstream_cx_active{" + here + "," + public + "}", "{{instance}}"}}},
			{title: "Requests in flight", unit: units.Short, stacked: true, queries: []query{{"envoy_http_downstream_rq_active{" + here + "," + public + "}", "{{instance}}"}}},
			{title: "Answers by class", unit: units.RequestsPerSecond, stacked: true, queries: []query{{rate("envoy_http_downstream_rq_xx", "envoy_response_code_class", public), "{{envoy_response_code_class}}xx"}}},
			{title: "Broken off", unit: units.RequestsPerSecond, queries: []query{
				{rate("envoy_http_downstream_rq_rx_reset", "", public), "by clients"},
				{rate("envoy_http_downstream_rq_tx_reset", "", public), "by Envoy"},
			}},
		}},
		{"weir's answers to Envoy", []panel{
			{title: "ext_authz", about: "Who lists models, looks at its own limits, or sends more than max_request_bytes; all others are asked about by ext_proc.", unit: units.RequestsPerSecond, queries: []query{
				{rate("envoy_http_ext_authz_ok", "", public), "ok"},
				{rate("envoy_http_ext_authz_denied", "", public), "denied"},
				{rate("envoy_http_ext_authz_error", "", public), "no answer"},
			}},
			{title: "ext_proc", unit: units.RequestsPerSecond, queries: []query{
				{rate("envoy_http_ext_proc_streams_started", "", public), "started"},
				{rate("envoy_http_ext_proc_streams_failed", "", public), "failed"},
				{rate("envoy_http_ext_proc_message_timeouts", "", public), "no answer in time"},
			}},
		}},
		{"Itself", []panel{
			{title: "Heap", unit: units.BytesIEC, queries: []query{{"envoy_server_memory_allocated{" + here + "}", "{{instance}}"}}},
			{title: "Memory pressure", about: "At 1 it refuses requests.", unit: units.PercentUnit, queries: []query{{"envoy_overload_envoy_resource_monitors_fixed_heap_pressure{" + here + "} / 100", "{{instance}}"}}},
			{title: "Rejected configuration", unit: units.Short, queries: []query{
				{"increase(envoy_cluster_manager_cds_update_rejected{" + here + "}" + rated + ")", "clusters {{instance}}"},
				{"increase(envoy_http_rds_update_rejected{" + here + "}" + rated + ")", "routes {{instance}}"},
			}},
			{title: "Uptime", unit: units.Seconds, queries: []query{{"envoy_server_uptime{" + here + "}", "{{instance}}"}}},
		}},
	}}
}

// json is the dashboard as Grafana reads it.
func (b board) json() ([]byte, error) {
	// Of the form that Grafana's provisioning reads from files.
	d := dashboard.NewDashboardBuilder(b.title).Uid(b.uid).Description(b.about).Tags([]string{"weir"}). //nolint:staticcheck // files of the newer form are not provisioned
														Readonly().Refresh("30s").Time("now-1h", "now").Timezone("browser").Tooltip(dashboard.DashboardCursorSyncCrosshair).
														WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Prometheus").Type("prometheus")).
														WithVariable(instances()).
														Link(dashboard.NewDashboardLinkBuilder("weir").Type(dashboard.DashboardLinkTypeDashboards).Tags([]string{"weir"}).AsDropdown(true).KeepTime(true).IncludeVars(true))
	for _, r := range b.rows {
		d = d.WithRow(dashboard.NewRowBuilder(r.title))
		for _, p := range r.panels {
			d = d.WithPanel(p.build())
		}
	}
	built, err := d.Build()
	if err != nil {
		return nil, fmt.Errorf("dashboard %s: %w", b.uid, err)
	}
	for i, p := range built.Panels {
		id := uint32(i + 1)
		if p.RowPanel != nil {
			p.RowPanel.Id = id
		} else {
			p.Panel.Id = &id
		}
	}
	text, err := json.MarshalIndent(built, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("dashboard %s: %w", b.uid, err)
	}
	return append(text, '\n'), nil
}

// source is the Prometheus that was chosen.
func source() common.DataSourceRef {
	return common.DataSourceRef{Type: new("prometheus"), Uid: new("${datasource}")}
}

// instances lets one choose among replicas.
func instances() *dashboard.QueryVariableBuilder {
	return dashboard.NewQueryVariableBuilder("instance").Label("Replica").Datasource(source()).
		Query(dashboard.StringOrMap{String: new(instanceQuery)}).
		Refresh(dashboard.VariableRefreshOnTimeRangeChanged).Multi(true).IncludeAll(true).AllValue(".*")
}

const instanceQuery = "label_values(weir_build_info, instance)"

// build makes numbers, six in a row, and graphs, two in a row.
func (p panel) build() cog.Builder[dashboard.Panel] {
	if p.number {
		s := stat.NewPanelBuilder().Title(p.title).Description(p.about).Datasource(source()).Unit(p.unit).Height(4).Span(4).
			GraphMode(common.BigValueGraphModeArea)
		for i, q := range p.queries {
			s = s.WithTarget(q.build(i))
		}
		return s
	}
	t := timeseries.NewPanelBuilder().Title(p.title).Description(p.about).Datasource(source()).Unit(p.unit).Height(8).Span(12).
		FillOpacity(10).ShowPoints(common.VisibilityModeNever).
		Legend(common.NewVizLegendOptionsBuilder().ShowLegend(true).DisplayMode(common.LegendDisplayModeList).Placement(common.LegendPlacementBottom)).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending))
	if !p.signed {
		t = t.Min(0)
	}
	if p.stacked {
		t = t.Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal)).FillOpacity(30)
	}
	for i, q := range p.queries {
		t = t.WithTarget(q.build(i))
	}
	return t
}

// build makes the i-th query of a panel.
func (q query) build(i int) *prometheus.DataqueryBuilder {
	b := prometheus.NewDataqueryBuilder().RefId(string(rune('A' + i))).Datasource(source()).Expr(q.expr).Range()
	if q.legend != "" {
		b = b.LegendFormat(q.legend)
	}
	return b
}
