package telemetry

import (
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// TestTracesAreOffUnlessAskedFor, and what is asked for in vain is refused.
func TestTracesAreOffUnlessAskedFor(t *testing.T) {
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"
	for _, tt := range []struct {
		env  string
		on   bool
		fail string
	}{
		{env: ""},
		{env: "OTEL_SERVICE_NAME=x"},
		{env: endpoint, on: true},
		{env: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://127.0.0.1:1", on: true},
		{env: "OTEL_TRACES_EXPORTER=otlp", on: true},
		{env: endpoint + " OTEL_EXPORTER_OTLP_PROTOCOL=grpc", on: true},
		{env: endpoint + " OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", on: true},
		{env: endpoint + " OTEL_TRACES_EXPORTER=none"},
		{env: endpoint + " OTEL_SDK_DISABLED=TRUE"},
		{env: "OTEL_TRACES_EXPORTER=zipkin", fail: `OTEL_TRACES_EXPORTER: got "zipkin", want otlp or none`},
		{env: endpoint + " OTEL_EXPORTER_OTLP_PROTOCOL=grpc OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/json", fail: `got "http/json", want grpc or http/protobuf`},
	} {
		vars := map[string]string{}
		for pair := range strings.FieldsSeq(tt.env) {
			name, value, _ := strings.Cut(pair, "=")
			vars[name] = value
		}
		tracer, err := OpenTracer(t.Context(), func(name string) (string, bool) { v, ok := vars[name]; return v, ok }, "v", zerolog.Nop())
		if (tracer != nil) != tt.on || (err != nil) != (tt.fail != "") || err != nil && !strings.Contains(err.Error(), tt.fail) {
			t.Errorf("%s: on %v, error %v", tt.env, tracer != nil, err)
		}
		if err := tracer.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestNoTracesCostNothing: not even an allocation.
func TestNoTracesCostNothing(t *testing.T) {
	var none *Tracer
	now := time.Now()
	if n := testing.AllocsPerRun(100, func() {
		if none.Start("chat", TraceContext{Parent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}, now) != nil {
			t.Error("a span")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
