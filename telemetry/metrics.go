package telemetry

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are what weir counts. Its methods are safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	full     prometheus.Counter

	requests *family[prometheus.Counter]
	duration *family[prometheus.Observer]
	active   prometheus.Gauge
	errors   *family[prometheus.Counter]
	tokens   *family[prometheus.Counter]
	genAI    genAI

	settled  *family[prometheus.Counter]
	refused  *family[prometheus.Counter]
	ttft     *family[prometheus.Observer]
	overhead prometheus.Histogram
	leases   prometheus.Counter
	shadowed *family[prometheus.Counter]
	failed   *family[prometheus.Counter]
	dropped  prometheus.Counter
	attempts *family[prometheus.Counter]
	ended    *family[prometheus.Counter]
	moved    *family[prometheus.Counter]
	metered  *family[prometheus.Counter]
	misses   *family[prometheus.Observer]
}

// NewMetrics returns metrics on a registry of their own, with those of the Go
// runtime and the process.
func NewMetrics() *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.full = m.single("weir_metrics_folded_total", "Observations counted under the name other, because their metric has all the series that it may have.")

	m.requests = m.counter("http_requests_total", "Requests answered, by endpoint and HTTP status; status 0 is a client that left before.", "endpoint", "status")
	m.duration = m.histogram("http_request_duration_seconds", "Time from a request's arrival to the end of its answer.", secondsLong, "endpoint")
	m.active = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "http_active_requests", Help: "Requests that were admitted and are not answered yet.",
	})
	m.errors = m.counter("http_errors_total", "Requests answered with a status of 400 or more, by error type.", "endpoint", "type")
	m.tokens = m.counter("token_usage_total", "Tokens charged, by model and kind: prompt or completion.", "model", "kind")
	m.genAI = m.newGenAI()

	m.settled = m.counter("weir_exchanges_settled_total", "Exchanges settled, by outcome and by what their counts are worth.", "outcome", "source")
	m.refused = m.counter("weir_limit_refusals_total", "Requests refused by a limit.", "limit")
	m.ttft = m.histogram("weir_time_to_first_token_seconds", "Time from a request's arrival to the first part of its answer.", secondsLong, "model")
	m.overhead = prometheus.NewHistogram(histogramOpts("weir_overhead_seconds", "Time spent in weir before a request went to its upstream.", secondsShort))
	m.shadowed = m.counter("weir_limit_shadow_refusals_total", "Requests that a shadow limit would have refused.", "limit")
	m.failed = m.counter("weir_store_calls_failed_total", "Calls of the limit store that failed, by operation.", "op")
	m.dropped = m.single("weir_store_owed_dropped_total", "Exchanges that the limit store was to be told of, and that were forgotten for want of room.")
	m.attempts = m.counter("weir_upstream_attempts_total", "Attempts at upstreams with several keys or alternatives.", "upstream")
	m.ended = m.counter("weir_upstream_attempts_answered_total", "Attempts that were answered, by what the answer says of the key.", "upstream", "outcome")
	m.metered = m.counter("weir_answers_metered_total", "Answers whose tokens are counted, by where that is: native (inside of Envoy) or streamed (by weir).", "metering")
	m.moved = m.counter("weir_upstream_key_changes_total", "Changes of the state of upstream keys, by the new state.", "upstream", "state")
	m.misses = m.histogram("weir_estimate_error_ratio", "How far estimates of 64 tokens and more were from the upstream's count, relative to it, by kind: prompt or completion. 0.1 is a tenth too many.", aroundZero, "kind")
	m.leases = m.single("weir_leases_lost_total", "Leases of live exchanges that the limit store had lost, and that were put back.")
	m.registry.MustRegister(m.active, m.overhead)
	return m
}

var (
	secondsLong  = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300}
	aroundZero   = []float64{-.75, -.5, -.3, -.2, -.1, -.05, -.02, 0, .02, .05, .1, .2, .3, .5, 1, 2}
	secondsShort = []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .5}
)

// single registers a counter without labels.
func (m *Metrics) single(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) counter(name, help string, names ...string) *family[prometheus.Counter] {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, names)
	m.registry.MustRegister(v)
	return newFamily(v.WithLabelValues, maxCounters, m.full, names)
}

func (m *Metrics) histogram(name, help string, buckets []float64, names ...string) *family[prometheus.Observer] {
	v := prometheus.NewHistogramVec(histogramOpts(name, help, buckets), names)
	m.registry.MustRegister(v)
	return newFamily(v.WithLabelValues, maxHistograms, m.full, names)
}

// histogramOpts has a histogram kept in two ways: with those buckets, and natively with
// ones that are a tenth apart, for a Prometheus that asks for it.
func histogramOpts(name, help string, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
	}
}

// Registerer takes metrics of other parts, such as gauges read at each scrape.
func (m *Metrics) Registerer() prometheus.Registerer { return m.registry }

// Gatherer reads them all.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// Build registers a metric that tells the version of weir.
func (m *Metrics) Build(version string) {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "weir_build_info", Help: "1, with the version of weir.", ConstLabels: prometheus.Labels{"version": version},
	})
	g.Set(1)
	m.registry.MustRegister(g)
}

// Gauge registers a gauge that is read at each scrape.
func (m *Metrics) Gauge(name, help string, read func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
}

// Counter registers a counter that is read at each scrape.
func (m *Metrics) Counter(name, help string, read func() float64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, read))
}

// UpstreamGauge is Gauge with the name of an upstream as its label, and more labels.
// read tells the value of each upstream that there is.
func (m *Metrics) UpstreamGauge(name, help string, read func(tell func(value float64, upstream string, more ...string)), more ...string) {
	m.registry.MustRegister(&upstreamGauge{prometheus.NewDesc(name, help, append([]string{"upstream"}, more...), nil), read})
}

// upstreamGauge is a gauge of upstreams that come and go.
type upstreamGauge struct {
	desc *prometheus.Desc
	read func(tell func(value float64, upstream string, more ...string))
}

// Describe is that of prometheus.Collector.
func (g *upstreamGauge) Describe(out chan<- *prometheus.Desc) { out <- g.desc }

// Collect is that of prometheus.Collector.
func (g *upstreamGauge) Collect(out chan<- prometheus.Metric) {
	g.read(func(value float64, upstream string, more ...string) {
		out <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, value, append([]string{upstream}, more...)...)
	})
}

// Handler serves GET /metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Answered counts a request that was answered, with the type of its error if it
// was one. A status of 0 is a client that left before it was answered.
func (m *Metrics) Answered(endpoint string, status int, errorType string, took time.Duration) {
	m.requests.of(labels{endpoint, closedStatus(status)}).Inc()
	if errorType != "" {
		m.errors.of(labels{endpoint, closedError(errorType)}).Inc()
	}
	m.duration.of(labels{endpoint}).Observe(took.Seconds())
}

// closedStatus is the label of a status. An upstream chooses some of them.
func closedStatus(status int) string {
	if status != 0 && http.StatusText(status) == "" {
		return other
	}
	return strconv.Itoa(status)
}

// closedError is the label of an error type: OpenAI's and Anthropic's, and those of
// outcomes. Upstreams may say others.
func closedError(t string) string {
	switch t {
	case "", "requests", "tokens", "concurrency", "server_error", "service_unavailable_error", "aborted", "cut", "upstream_error",
		"invalid_request_error", "authentication_error", "permission_error", "not_found_error", "rate_limit_error", "insufficient_quota",
		"request_too_large", "api_error", "overloaded_error", "timeout_error", "billing_error":
		return t
	}
	return other
}

// Admitted counts an exchange that begins.
func (m *Metrics) Admitted(overhead time.Duration) {
	m.active.Inc()
	m.overhead.Observe(overhead.Seconds())
}

// Refused counts a request that a limit refused.
func (m *Metrics) Refused(limit string) { m.refused.of(labels{limit}).Inc() }

// Shadowed counts a request that a shadow limit would have refused.
func (m *Metrics) Shadowed(limit string) { m.shadowed.of(labels{limit}).Inc() }

// StoreFailed counts a call of the limit store that failed.
func (m *Metrics) StoreFailed(op string) { m.failed.of(labels{op}).Inc() }

// StoreDropped counts exchanges that the store will never be told of.
func (m *Metrics) StoreDropped(n int) { m.dropped.Add(float64(n)) }

// Attempt counts an attempt that begins.
func (m *Metrics) Attempt(upstream string) { m.attempts.of(labels{upstream}).Inc() }

// AttemptEnded counts an attempt that was answered.
func (m *Metrics) AttemptEnded(upstream, outcome string) {
	m.ended.of(labels{upstream, outcome}).Inc()
}

// KeyChanged counts an upstream key that came into a state.
func (m *Metrics) KeyChanged(upstream, state string) { m.moved.of(labels{upstream, state}).Inc() }

// FirstToken notes how long the first part of an answer took.
func (m *Metrics) FirstToken(model string, took time.Duration) {
	m.ttft.of(labels{model}).Observe(took.Seconds())
}

// Settled counts an admitted exchange that ended.
func (m *Metrics) Settled(model, outcome, source string, input, output int64) {
	m.active.Dec()
	m.settled.of(labels{outcome, source}).Inc()
	m.tokens.of(labels{model, "prompt"}).Add(float64(input))
	m.tokens.of(labels{model, "completion"}).Add(float64(output))
}

// Served notes an exchange that an upstream was asked for, when it has ended.
func (m *Metrics) Served(a *Answer) { m.genAI.answered(a) }

// Estimated notes an estimate, in tokens, of what was then counted.
func (m *Metrics) Estimated(kind string, estimate, count int64) {
	m.misses.of(labels{kind}).Observe(float64(estimate-count) / float64(count))
}

// LeasesLost counts leases that had to be put back.
func (m *Metrics) LeasesLost(n int) { m.leases.Add(float64(n)) }

// Metered counts an answer that begins, by where its tokens are counted.
func (m *Metrics) Metered(native bool) {
	how := "streamed"
	if native {
		how = "native"
	}
	m.metered.of(labels{how}).Inc()
}
