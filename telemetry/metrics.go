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

	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	active   prometheus.Gauge
	errors   *prometheus.CounterVec
	tokens   *prometheus.CounterVec

	settled  *prometheus.CounterVec
	refused  *prometheus.CounterVec
	ttft     *prometheus.HistogramVec
	overhead prometheus.Histogram
	leases   *prometheus.CounterVec
	shadowed *prometheus.CounterVec
	failed   *prometheus.CounterVec
	dropped  prometheus.Counter
	attempts *prometheus.CounterVec
	ended    *prometheus.CounterVec
	moved    *prometheus.CounterVec
	metered  *prometheus.CounterVec
	misses   *prometheus.HistogramVec
}

// NewMetrics returns metrics on a registry of their own, with those of the Go
// runtime and the process.
func NewMetrics() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: counter("http_requests_total", "Requests answered, by endpoint and HTTP status.", "endpoint", "status"),
		duration: histogram("http_request_duration_seconds", "Time from a request's arrival to the end of its answer.", secondsLong, "endpoint"),
		active: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "http_active_requests", Help: "Requests that were admitted and are not answered yet.",
		}),
		errors:   counter("http_errors_total", "Requests answered with a status of 400 or more, by error type.", "endpoint", "type"),
		tokens:   counter("token_usage_total", "Tokens charged, by model and kind: prompt or completion.", "model", "kind"),
		settled:  counter("weir_exchanges_settled_total", "Exchanges settled, by outcome and by what their counts are worth.", "outcome", "source"),
		refused:  counter("weir_limit_refusals_total", "Requests refused by a limit.", "limit"),
		ttft:     histogram("weir_time_to_first_token_seconds", "Time from a request's arrival to the first part of its answer.", secondsLong, "model"),
		overhead: prometheus.NewHistogram(histogramOpts("weir_overhead_seconds", "Time spent in weir before a request went to its upstream.", secondsShort)),
		shadowed: counter("weir_limit_shadow_refusals_total", "Requests that a shadow limit would have refused.", "limit"),
		failed:   counter("weir_store_calls_failed_total", "Calls of the limit store that failed, by operation.", "op"),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_store_owed_dropped_total", Help: "Exchanges that the limit store was to be told of, and that were forgotten for want of room.",
		}),
		attempts: counter("weir_upstream_attempts_total", "Attempts at upstreams with several keys or alternatives.", "upstream"),
		ended:    counter("weir_upstream_attempts_answered_total", "Attempts that were answered, by what the answer says of the key.", "upstream", "outcome"),
		metered:  counter("weir_answers_metered_total", "Answers whose tokens are counted, by where that is: native (inside of Envoy) or streamed (by weir).", "metering"),
		moved:    counter("weir_upstream_key_changes_total", "Changes of the state of upstream keys, by the new state.", "upstream", "state"),
		misses:   histogram("weir_estimate_error_ratio", "How far estimates of 64 tokens and more were from the upstream's count, relative to it, by kind: prompt or completion. 0.1 is a tenth too many.", aroundZero, "kind"),
		leases:   counter("weir_leases_lost_total", "Leases of live exchanges that the limit store had lost, and that were put back."),
	}
	m.registry.MustRegister(m.requests, m.duration, m.active, m.errors, m.tokens, m.settled, m.refused, m.ttft, m.overhead, m.leases, m.shadowed, m.failed, m.dropped, m.attempts, m.ended, m.moved, m.metered, m.misses,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

var (
	secondsLong  = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300}
	aroundZero   = []float64{-.75, -.5, -.3, -.2, -.1, -.05, -.02, 0, .02, .05, .1, .2, .3, .5, 1, 2}
	secondsShort = []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .5}
)

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(histogramOpts(name, help, buckets), labels)
}

func histogramOpts(name, help string, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}
}

// Registerer takes metrics of other parts, such as gauges read at each scrape.
func (m *Metrics) Registerer() prometheus.Registerer { return m.registry }

// Gatherer reads them all.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// Gauge registers a gauge that is read at each scrape.
func (m *Metrics) Gauge(name, help string, read func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
}

// Counter registers a counter that is read at each scrape.
func (m *Metrics) Counter(name, help string, read func() float64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, read))
}

// UpstreamGauge is Gauge with the name of an upstream as its label. read tells the
// value of each upstream that there is.
func (m *Metrics) UpstreamGauge(name, help string, read func(tell func(upstream string, value float64))) {
	m.registry.MustRegister(&upstreamGauge{prometheus.NewDesc(name, help, []string{"upstream"}, nil), read})
}

// upstreamGauge is a gauge of upstreams that come and go.
type upstreamGauge struct {
	desc *prometheus.Desc
	read func(tell func(upstream string, value float64))
}

// Describe is that of prometheus.Collector.
func (g *upstreamGauge) Describe(out chan<- *prometheus.Desc) { out <- g.desc }

// Collect is that of prometheus.Collector.
func (g *upstreamGauge) Collect(out chan<- prometheus.Metric) {
	g.read(func(upstream string, value float64) {
		out <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, value, upstream)
	})
}

// Handler serves GET /metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Answered counts a request that was answered, with the type of its error if it
// was one. A status of 0 is a client that left before it was answered.
func (m *Metrics) Answered(endpoint string, status int, errorType string, took time.Duration) {
	m.requests.WithLabelValues(endpoint, strconv.Itoa(status)).Inc()
	if errorType != "" {
		m.errors.WithLabelValues(endpoint, errorType).Inc()
	}
	m.duration.WithLabelValues(endpoint).Observe(took.Seconds())
}

// Admitted counts an exchange that begins.
func (m *Metrics) Admitted(overhead time.Duration) {
	m.active.Inc()
	m.overhead.Observe(overhead.Seconds())
}

// Refused counts a request that a limit refused.
func (m *Metrics) Refused(limit string) { m.refused.WithLabelValues(limit).Inc() }

// Shadowed counts a request that a shadow limit would have refused.
func (m *Metrics) Shadowed(limit string) { m.shadowed.WithLabelValues(limit).Inc() }

// StoreFailed counts a call of the limit store that failed.
func (m *Metrics) StoreFailed(op string) { m.failed.WithLabelValues(op).Inc() }

// StoreDropped counts exchanges that the store will never be told of.
func (m *Metrics) StoreDropped(n int) { m.dropped.Add(float64(n)) }

// Attempt counts an attempt that begins.
func (m *Metrics) Attempt(upstream string) { m.attempts.WithLabelValues(upstream).Inc() }

// AttemptEnded counts an attempt that was answered.
func (m *Metrics) AttemptEnded(upstream, outcome string) {
	m.ended.WithLabelValues(upstream, outcome).Inc()
}

// KeyChanged counts an upstream key that came into a state.
func (m *Metrics) KeyChanged(upstream, state string) { m.moved.WithLabelValues(upstream, state).Inc() }

// FirstToken notes how long the first part of an answer took.
func (m *Metrics) FirstToken(model string, took time.Duration) {
	m.ttft.WithLabelValues(model).Observe(took.Seconds())
}

// Settled counts an admitted exchange that ended.
func (m *Metrics) Settled(model, outcome, source string, input, output int64) {
	m.active.Dec()
	m.settled.WithLabelValues(outcome, source).Inc()
	m.tokens.WithLabelValues(model, "prompt").Add(float64(input))
	m.tokens.WithLabelValues(model, "completion").Add(float64(output))
}

// Estimated notes an estimate, in tokens, of what was then counted.
func (m *Metrics) Estimated(kind string, estimate, count int64) {
	m.misses.WithLabelValues(kind).Observe(float64(estimate-count) / float64(count))
}

// LeasesLost counts leases that had to be put back.
func (m *Metrics) LeasesLost(n int) { m.leases.WithLabelValues().Add(float64(n)) }

// Metered counts an answer that begins, by where its tokens are counted.
func (m *Metrics) Metered(native bool) {
	how := "streamed"
	if native {
		how = "native"
	}
	m.metered.WithLabelValues(how).Inc()
}
