package telemetry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Tracer makes a span of each exchange. A nil one makes none, and costs nothing.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	reads    bool // what clients say of their traces
}

// Getenv looks an environment variable up.
type Getenv func(name string) (value string, ok bool)

// OpenTracer returns a Tracer as the environment asks for it, nil if it does not:
// https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.
// What is not read here the SDK reads itself: samplers, limits, endpoints, headers.
// Spans that cannot be delivered are told to the log, and given up.
func OpenTracer(ctx context.Context, getenv Getenv, version string, log zerolog.Logger) (*Tracer, error) {
	env := func(names ...string) string {
		for _, name := range names {
			if v, _ := getenv(name); v != "" {
				return strings.ToLower(v)
			}
		}
		return ""
	}
	wanted, err := traced(env)
	if err != nil || !wanted {
		return nil, err
	}
	exporter, err := exporter(ctx, env("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"))
	if err != nil {
		return nil, err
	}
	self, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(), resource.WithAttributes(
		attribute.String("service.name", "weir"), attribute.String("service.version", version),
	), resource.WithFromEnv())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err), exporter.Shutdown(ctx))
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.Warn().Err(err).Msg("traces could not be delivered")
	}))
	p := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(self))
	propagators := env("OTEL_PROPAGATORS")
	return &Tracer{
		provider: p, tracer: p.Tracer("github.com/weir-gateway/weir", trace.WithInstrumentationVersion(version)),
		reads: propagators == "" || slices.Contains(strings.Split(propagators, ","), "tracecontext"),
	}, nil
}

// traced tells whether the environment asks for traces.
func traced(env func(...string) string) (bool, error) {
	if env("OTEL_SDK_DISABLED") == "true" {
		return false, nil
	}
	switch e := env("OTEL_TRACES_EXPORTER"); e {
	case "":
		return env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT") != "", nil
	case "otlp":
		return true, nil
	case "none":
		return false, nil
	default:
		return false, fmt.Errorf("OTEL_TRACES_EXPORTER: got %q, want otlp or none", e)
	}
}

func exporter(ctx context.Context, protocol string) (e sdktrace.SpanExporter, err error) {
	switch protocol {
	case "grpc":
		e, err = otlptracegrpc.New(ctx)
	case "", "http/protobuf":
		e, err = otlptracehttp.New(ctx)
	default:
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL: got %q, want grpc or http/protobuf", protocol)
	}
	if err != nil {
		return nil, fmt.Errorf("OTLP exporter: %w", err)
	}
	return e, nil
}

// Close delivers the spans that wait, as long as ctx allows.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("deliver the last traces: %w", err)
	}
	return nil
}

// TraceContext is what a request's headers say of the trace that it belongs to, see
// https://www.w3.org/TR/trace-context/.
type TraceContext struct{ Parent, State string }

// AddState adds a header tracestate; there may be several.
func (c *TraceContext) AddState(value string) {
	if c.State != "" {
		c.State += ","
	}
	c.State += value
}

// carrier has the SDK read and write a TraceContext.
type carrier struct{ *TraceContext }

func (c carrier) Get(name string) string {
	switch name {
	case "traceparent":
		return c.Parent
	case "tracestate":
		return c.State
	default:
		return ""
	}
}

func (c carrier) Set(name, value string) {
	switch name {
	case "traceparent":
		c.Parent = value
	case "tracestate":
		c.State = value
	}
}

func (c carrier) Keys() []string { return []string{"traceparent", "tracestate"} }

// Span is the span of one exchange. Where there are no traces it is nil, and callers ask.
type Span struct {
	span   trace.Span
	passed TraceContext
}

// Start begins the span of an exchange that arrived at that time, in the trace of its
// client if that names one.
func (t *Tracer) Start(operation string, from TraceContext, at time.Time) *Span {
	if t == nil {
		return nil
	}
	return t.start(operation, from, at)
}

func (t *Tracer) start(operation string, from TraceContext, at time.Time) *Span {
	ctx := context.Background()
	if t.reads {
		ctx = propagation.TraceContext{}.Extract(ctx, carrier{&from})
	}
	ctx, span := t.tracer.Start(ctx, operation, trace.WithTimestamp(at), trace.WithSpanKind(trace.SpanKindClient))
	s := &Span{span: span}
	propagation.TraceContext{}.Inject(ctx, carrier{&s.passed})
	return s
}

// Passed is what the upstream is to be told: the span is the parent of its own.
func (s *Span) Passed() TraceContext { return s.passed }

// TraceID names the trace, for logs.
func (s *Span) TraceID() string { return s.span.SpanContext().TraceID().String() }

// Exchange is what a span tells of an exchange: no text of prompts or answers, and no
// secret.
type Exchange struct {
	Answer             // Upstream is "" if none was asked
	RequestID   string // that the client can quote
	Key         string // public id of the client's
	Host        string // of the upstream
	Port        int
	Status      int // HTTP, as the client got it; 0: it left before
	Outcome     string
	Source      string   // what the counts are worth
	Limit       string   // the one that refused
	Finish      []string // why choices ended
	Attempts    int
	UpstreamKey string // public id of the pool's
}

// End ends the span with what is known in the end.
func (s *Span) End(x *Exchange) {
	defer s.span.End()
	if !s.span.IsRecording() {
		return
	}
	if x.Model != "" {
		s.span.SetName(x.Operation + " " + x.Model)
	}
	s.span.SetAttributes(x.attributes()...)
	if x.First > 0 {
		s.span.AddEvent("first token", trace.WithTimestamp(time.Now().Add(x.First-x.Duration)))
	}
	if x.Error != "" {
		s.span.SetStatus(codes.Error, x.Error)
	}
}

// attributes are those of the GenAI conventions, of the HTTP ones, and weir's own:
// https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/.
func (x *Exchange) attributes() []attribute.KeyValue {
	list := make([]attribute.KeyValue, 0, 24)
	text := func(name, value string) {
		if value != "" {
			list = append(list, attribute.String(name, value))
		}
	}
	text("gen_ai.operation.name", x.Operation)
	text("gen_ai.request.model", x.Model)
	text("error.type", x.Error)
	text("weir.outcome", x.Outcome)
	text("weir.request_id", x.RequestID)
	text("weir.key", x.Key)
	text("weir.limit", x.Limit)
	list = append(list, attribute.Bool("weir.stream", x.Stream))
	if x.Status != 0 {
		list = append(list, attribute.Int("http.response.status_code", x.Status))
	}
	if x.Upstream == "" {
		return list
	}
	text("gen_ai.provider.name", x.Upstream)
	text("gen_ai.response.model", x.Served)
	text("server.address", x.Host)
	text("weir.tokens_source", x.Source)
	text("weir.upstream_key", x.UpstreamKey)
	list = append(list, attribute.Int("weir.attempts", x.Attempts))
	if x.Port != 0 {
		list = append(list, attribute.Int("server.port", x.Port))
	}
	if x.Input+x.Output > 0 {
		list = append(list, attribute.Int64("gen_ai.usage.input_tokens", x.Input), attribute.Int64("gen_ai.usage.output_tokens", x.Output))
	}
	if len(x.Finish) > 0 {
		list = append(list, attribute.StringSlice("gen_ai.response.finish_reasons", x.Finish))
	}
	return list
}
