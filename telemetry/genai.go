package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Attributes of the GenAI conventions as Prometheus has them, see
// https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/.
const (
	operationName = "gen_ai_operation_name"
	providerName  = "gen_ai_provider_name"
	requestModel  = "gen_ai_request_model"
	responseModel = "gen_ai_response_model"
	tokenType     = "gen_ai_token_type"
	errorType     = "error_type"
)

// Buckets that the conventions advise.
var (
	usageBuckets    = []float64{1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864}
	durationBuckets = []float64{.01, .02, .04, .08, .16, .32, .64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92}
	firstBuckets    = []float64{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10}
	perTokenBuckets = []float64{.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5}
)

// genAI are the metrics of OpenTelemetry's GenAI conventions, under the names that its
// Prometheus exporters give them.
type genAI struct {
	usage    *family[prometheus.Observer]
	duration *family[prometheus.Observer]
	first    *family[prometheus.Observer]
	perToken *family[prometheus.Observer]
}

func (m *Metrics) newGenAI() genAI {
	who := func(more ...string) []string {
		return append([]string{operationName, providerName, requestModel, responseModel}, more...)
	}
	return genAI{
		usage: m.histogram("gen_ai_client_token_usage", "Tokens of an exchange as its upstream counted them, by gen_ai_token_type: input or output.",
			usageBuckets, who(tokenType)...),
		duration: m.histogram("gen_ai_server_request_duration_seconds", "Time from the arrival of a request that was sent to an upstream to the end of its answer.",
			durationBuckets, who(errorType)...),
		first: m.histogram("gen_ai_server_time_to_first_token_seconds", "Time from a request's arrival to the first token of its streamed answer, of answers that came to their end.",
			firstBuckets, who()...),
		perToken: m.histogram("gen_ai_server_time_per_output_token_seconds", "Time for each token after the first of a streamed answer, of answers that came to their end and were counted exactly.",
			perTokenBuckets, who()...),
	}
}

// Answer is what the GenAI conventions ask about an exchange that an upstream was asked
// for.
type Answer struct {
	Operation string // see openai.Endpoint.Operation
	Upstream  string // that answered, or was asked last
	Model     string // that the request is for, by its own name
	Served    string // what the upstream calls the model
	Error     string // "" if the answer came to its end
	Stream    bool
	Exact     bool // the tokens are the upstream's count
	Input     int64
	Output    int64
	Duration  time.Duration // from the request's arrival to the answer's end
	First     time.Duration // until its first part; 0: there was none
}

func (g *genAI) answered(a *Answer) {
	who := labels{a.Operation, a.Upstream, a.Model, a.Served}
	and := func(value string) labels { l := who; l[4] = value; return l }
	g.duration.of(and(closedError(a.Error))).Observe(a.Duration.Seconds())
	if a.Exact {
		g.usage.of(and("input")).Observe(float64(a.Input))
		g.usage.of(and("output")).Observe(float64(a.Output))
	}
	if a.Error != "" || !a.Stream || a.First == 0 {
		return
	}
	g.first.of(who).Observe(a.First.Seconds())
	if a.Exact && a.Output > 1 {
		g.perToken.of(who).Observe((a.Duration - a.First).Seconds() / float64(a.Output-1))
	}
}
