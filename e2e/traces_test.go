package e2e

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/weir-gateway/weir/simulator"
)

// collector receives traces, as OTLP has them.
type collector struct {
	collectorv1.UnimplementedTraceServiceServer
	mu       sync.Mutex
	received []*tracev1.ResourceSpans // guarded by mu
}

// Export takes spans that come by gRPC.
func (c *collector) Export(_ context.Context, in *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.received = append(c.received, in.GetResourceSpans()...)
	return &collectorv1.ExportTraceServiceResponse{}, nil
}

// ServeHTTP takes spans that come by HTTP.
func (c *collector) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	var in collectorv1.ExportTraceServiceRequest
	if err != nil || req.URL.Path != "/v1/traces" || proto.Unmarshal(body, &in) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	_, _ = c.Export(req.Context(), &in)
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// all is everything that was received, as text.
func (c *collector) all() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, r := range c.received {
		b.WriteString(prototext.Format(r))
	}
	return b.String()
}

// span is a span as tests compare it.
type span struct {
	Name, Kind, Status string
	Trace, ID, Parent  string // hex
	Attributes         map[string]string
	Events             []string
	took               time.Duration
	service            string
}

// spans are those that have come, by the request id of their exchanges.
func (c *collector) spans(t *testing.T) map[string]span {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	list := map[string]span{}
	for _, r := range c.received {
		service := attributes(r.GetResource().GetAttributes())["service.name"]
		for _, scope := range r.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				one := span{
					Name: s.GetName(), Kind: s.GetKind().String(), Status: s.GetStatus().GetCode().String(),
					Trace: hex.EncodeToString(s.GetTraceId()), ID: hex.EncodeToString(s.GetSpanId()), Parent: hex.EncodeToString(s.GetParentSpanId()),
					Attributes: attributes(s.GetAttributes()), service: service,
					took: time.Duration(s.GetEndTimeUnixNano() - s.GetStartTimeUnixNano()),
				}
				for _, e := range s.GetEvents() {
					one.Events = append(one.Events, e.GetName())
				}
				id := one.Attributes["weir.request_id"]
				if _, twice := list[id]; twice || id == "" {
					t.Errorf("request %q has two spans, or none has one", id)
				}
				list[id] = one
			}
		}
	}
	return list
}

func attributes(list []*commonv1.KeyValue) map[string]string {
	m := map[string]string{}
	for _, a := range list {
		var text string
		switch v := a.GetValue().GetValue().(type) {
		case *commonv1.AnyValue_StringValue:
			text = v.StringValue
		case *commonv1.AnyValue_ArrayValue:
			for _, e := range v.ArrayValue.GetValues() {
				text += e.GetStringValue() + ";"
			}
		case *commonv1.AnyValue_IntValue:
			text = fmt.Sprint(v.IntValue)
		case *commonv1.AnyValue_BoolValue:
			text = fmt.Sprint(v.BoolValue)
		default:
			text = fmt.Sprint(v)
		}
		m[a.GetKey()] = text
	}
	return m
}

// collected are the spans once there are n.
func (r *rig) collected(n int) map[string]span {
	r.t.Helper()
	r.eventually(fmt.Sprintf("%d spans have come", n), func() bool { return len(r.traces.spans(r.t)) >= n })
	list := r.traces.spans(r.t)
	if len(list) != n {
		r.t.Errorf("%d spans, want %d", len(list), n)
	}
	return list
}

// told keeps what an upstream was told of traces, by request id.
type told struct {
	next http.Handler
	mu   sync.Mutex
	by   map[string][2]string // traceparent, tracestate
}

func (h *told) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.by[r.Header.Get("X-Request-Id")] = [2]string{r.Header.Get("Traceparent"), strings.Join(r.Header["Tracestate"], ",")}
	h.mu.Unlock()
	h.next.ServeHTTP(w, r)
}

func (h *told) of(id string) (parent, state string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.by[id][0], h.by[id][1]
}

func listening() *told {
	return &told{by: map[string][2]string{}, next: simulator.New(simulator.Options{
		Models: []simulator.Model{{Name: "m", Script: simulator.Script{Tokens: 7}}}, Key: upstreamSecret,
	})}
}

// traced is a site that sends its traces to a collector by HTTP.
func traced(t *testing.T, f fixture) *rig {
	t.Helper()
	c := &collector{}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	f.env = append(f.env, "OTEL_EXPORTER_OTLP_ENDPOINT="+server.URL, "OTEL_BSP_SCHEDULE_DELAY=20", "OTEL_RESOURCE_ATTRIBUTES=deployment.environment=test")
	r := start(t, f)
	r.traces = c
	return r
}

const (
	clientTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	clientSpan   = "00f067aa0ba902b7"
	clientParent = "00-" + clientTrace + "-" + clientSpan + "-01"
	clientState  = "vendor=abc,other=1"
	unknownModel = "a-model-that-nobody-has"
)

// TestTraces has exchanges of all kinds make a span each, in the trace of their client,
// that is the parent of what the upstream does.
func TestTraces(t *testing.T) {
	t.Parallel()
	upstream := listening()
	f := fixture{
		upstream: upstream, limits: "  - {name: slots, concurrency: 50}\n",
		keys: "  - {id: limited, secret: " + limitedKey + ", limits: [{name: few, per: [key], requests: 1/h}]}\n",
	}
	sim := withPool(t, &f, "", always("fail=status:401"), fine)
	r := traced(t, f)
	r.pool = sim
	tests := []struct {
		name, body, script string
		key                string
		leaves             bool
		want               map[string]string
		spanName, status   string
		events             int
		unasked            bool // no upstream is told
	}{
		{
			name: "plain", body: chat(), spanName: "chat m", events: 1,
			want: map[string]string{
				"gen_ai.operation.name": "chat", "gen_ai.provider.name": "sim", "gen_ai.request.model": "m", "gen_ai.response.model": "m",
				"gen_ai.usage.output_tokens": "7", "gen_ai.response.finish_reasons": "stop;", "http.response.status_code": "200",
				"weir.outcome": "ok", "weir.stream": "false", "weir.key": "good", "server.address": "127.0.0.1", "weir.tokens_source": "exact",
			},
		},
		{
			name: "an alias, streamed", body: strings.Replace(chat(`"stream":true`), `"m"`, `"alias"`, 1), spanName: "chat m", events: 1,
			want: map[string]string{"gen_ai.usage.output_tokens": "7", "gen_ai.response.finish_reasons": "stop;", "weir.outcome": "ok", "weir.stream": "true"},
		},
		{
			name: "a pool's second key", body: ask, spanName: "chat p", events: 1, unasked: true,
			want: map[string]string{"gen_ai.provider.name": "pool", "weir.attempts": "2", "gen_ai.usage.output_tokens": "5"},
		},
		{
			name: "too long", body: chat(`"max_tokens":3`), spanName: "chat m", events: 1,
			want: map[string]string{"gen_ai.response.finish_reasons": "length;", "gen_ai.usage.output_tokens": "3"},
		},
		{
			name: "the first of a limited key", body: chat(), key: limitedKey, spanName: "chat m", events: 1,
			want: map[string]string{"weir.key": "limited"},
		},
		{
			name: "refused", body: chat(), key: limitedKey, spanName: "chat m", status: "STATUS_CODE_ERROR", unasked: true,
			want: map[string]string{"weir.outcome": "refused", "error.type": "requests", "http.response.status_code": "429", "weir.limit": "few", "server.address": ""},
		},
		{
			name: "no such model", body: `{"model":"` + unknownModel + `","messages":[]}`, spanName: "chat", status: "STATUS_CODE_ERROR", unasked: true,
			want: map[string]string{"weir.outcome": "refused", "http.response.status_code": "404", "gen_ai.request.model": ""},
		},
		{
			name: "an upstream's error", body: chat(), script: "fail=status:500", spanName: "chat m", status: "STATUS_CODE_ERROR",
			want: map[string]string{"weir.outcome": "upstream_error", "error.type": "server_error", "http.response.status_code": "502", "gen_ai.usage.output_tokens": ""},
		},
		{
			name: "nobody answers", body: `{"model":"dead","messages":[]}`, spanName: "chat dead", status: "STATUS_CODE_ERROR", unasked: true,
			want: map[string]string{"http.response.status_code": "503", "server.address": "127.0.0.1", "server.port": "1"},
		},
		{
			name: "aborted", body: chat(`"stream":true`), script: "tokens=500,pace=10ms", leaves: true, spanName: "chat m", status: "STATUS_CODE_ERROR", events: 1,
			want: map[string]string{"weir.outcome": "aborted", "error.type": "aborted", "weir.tokens_source": "estimated", "gen_ai.response.finish_reasons": ""},
		},
		{
			name: "cut", body: chat(`"stream":true`), script: "fail=end:4", spanName: "chat m", status: "STATUS_CODE_ERROR", events: 1,
			want: map[string]string{"weir.outcome": "cut", "error.type": "server_error"},
		},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			key := tt.key
			if key == "" {
				key = goodKey
			}
			headers := []string{"Authorization", "Bearer " + key, "X-Simulate", tt.script, "Traceparent", clientParent, "Tracestate", clientState}
			if tt.leaves {
				ctx, cancel := context.WithCancel(t.Context())
				resp, err := r.send(ctx, http.MethodPost, "/v1/chat/completions", tt.body, headers...)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := resp.Body.Read(make([]byte, 1000)); err != nil {
					t.Error(err)
				}
				cancel()
				resp.Body.Close()
			} else {
				r.post(tt.body, headers...)
			}
			rec := r.settled(i + 1)[i]
			got := r.collected(i + 1)[rec.RequestID]
			if tt.status == "" {
				tt.status = "STATUS_CODE_UNSET"
			}
			if got.Name != tt.spanName || got.Kind != "SPAN_KIND_CLIENT" || got.Status != tt.status || got.service != "weir" || len(got.Events) != tt.events || got.took <= 0 {
				t.Errorf("span %+v", got)
			}
			if got.Trace != clientTrace || got.Parent != clientSpan {
				t.Errorf("the span is in the trace %s below %s", got.Trace, got.Parent)
			}
			has := map[string]string{}
			for name := range tt.want {
				has[name] = got.Attributes[name]
			}
			if diff := cmp.Diff(tt.want, has); diff != "" {
				t.Errorf("attributes (-want +got):\n%s", diff)
			}
			parent, state := upstream.of(rec.RequestID)
			if want := "00-" + clientTrace + "-" + got.ID + "-01"; !tt.unasked && (parent != want || state != clientState) {
				t.Errorf("the upstream was told %q, %q, want %q", parent, state, want)
			}
			if !strings.Contains(r.Log(), `"trace_id":"`+clientTrace+`"`) {
				t.Error("the log names no trace")
			}
		})
	}
	// Most of these are refused before their bodies are read.
	const burst = 8
	for range burst {
		r.post(chat(), "Authorization", "Bearer "+limitedKey, "Traceparent", clientParent)
	}
	early := 0
	for _, s := range r.collected(len(tests) + burst) {
		if s.Parent != clientSpan {
			t.Errorf("span %+v", s)
		}
		if s.Name == "chat" && s.Attributes["weir.limit"] == "few" {
			early++
		}
	}
	if early == 0 {
		t.Error("no request was refused early")
	}
	if strings.Contains(r.traces.all(), unknownModel) {
		t.Error("traces have what a client wrote")
	}
	if log := r.Log(); strings.Contains(log, "could not be delivered") {
		t.Error(log)
	}
}

// TestTracesOfNativeAnswers: Envoy's script and its access log end them.
func TestTracesOfNativeAnswers(t *testing.T) {
	t.Parallel()
	upstream := listening()
	r := traced(t, fixture{upstream: upstream, metering: "native"})
	r.post(chat(`"stream":true`), "Traceparent", clientParent)
	leave(r, 3, "tokens=500,pace=10ms")
	records := r.settled(2)
	spans := r.collected(2)
	for i, want := range []map[string]string{
		{"weir.outcome": "ok", "gen_ai.response.finish_reasons": "stop;", "gen_ai.usage.output_tokens": "7", "weir.tokens_source": "exact"},
		{"weir.outcome": "aborted", "gen_ai.response.finish_reasons": "", "weir.tokens_source": "estimated", "error.type": "aborted"},
	} {
		got := spans[records[i].RequestID]
		for name, value := range want {
			if got.Attributes[name] != value {
				t.Errorf("%d: %s is %q, want %q", i, name, got.Attributes[name], value)
			}
		}
		if parent, _ := upstream.of(records[i].RequestID); parent != "00-"+got.Trace+"-"+got.ID+"-01" {
			t.Errorf("%d: the upstream was told %q", i, parent)
		}
		if wantParent := map[bool]string{true: clientSpan}[i == 0]; got.Parent != wantParent {
			t.Errorf("%d: the parent is %q, want %q", i, got.Parent, wantParent)
		}
	}
	if n := r.metric(`weir_answers_metered_total{metering="native"}`); n != "2" {
		t.Errorf("%s answers were metered natively", n)
	}
}

// TestTracesAsTheEnvironmentSays: over gRPC; not of what a client does not sample; not in
// traces that do not exist; not at all without being asked for.
func TestTracesAsTheEnvironmentSays(t *testing.T) {
	t.Parallel()
	t.Run("gRPC", func(t *testing.T) {
		t.Parallel()
		c := &collector{}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer()
		collectorv1.RegisterTraceServiceServer(s, c)
		go func() { _ = s.Serve(l) }()
		t.Cleanup(s.Stop)
		upstream := listening()
		r := start(t, fixture{upstream: upstream, env: []string{
			"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://" + l.Addr().String(),
			"OTEL_SERVICE_NAME=front", "OTEL_BSP_SCHEDULE_DELAY=20",
		}})
		r.traces = c
		r.post(chat(), "Traceparent", "00-"+clientTrace+"-"+clientSpan+"-00", "Tracestate", clientState)
		r.post(chat(), "Traceparent", "not of this form", "Tracestate", clientState)
		records := r.settled(2)
		got := r.collected(1)[records[1].RequestID]
		if got.service != "front" || got.Parent != "" || got.Trace == clientTrace {
			t.Errorf("span %+v", got)
		}
		if parent, state := upstream.of(records[1].RequestID); parent != "00-"+got.Trace+"-"+got.ID+"-01" || state != "" {
			t.Errorf("the upstream of a new trace was told %q, %q", parent, state)
		}
		parent, state := upstream.of(records[0].RequestID)
		if !strings.HasPrefix(parent, "00-"+clientTrace+"-") || strings.Contains(parent, clientSpan) || !strings.HasSuffix(parent, "-00") || state != clientState {
			t.Errorf("the upstream of a trace that is not sampled was told %q, %q", parent, state)
		}
	})
	t.Run("off", func(t *testing.T) {
		t.Parallel()
		upstream := listening()
		r := start(t, fixture{upstream: upstream})
		r.post(chat(), "Traceparent", clientParent, "Tracestate", clientState)
		if parent, state := upstream.of(r.settled(1)[0].RequestID); parent != clientParent || state != clientState {
			t.Errorf("the upstream was told %q, %q, want what the client said", parent, state)
		}
		if strings.Contains(r.Log(), "trace_id") {
			t.Error("the log names a trace")
		}
	})
	t.Run("nobody listens", func(t *testing.T) {
		t.Parallel()
		r := start(t, fixture{env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_BSP_SCHEDULE_DELAY=20", "OTEL_EXPORTER_OTLP_TIMEOUT=100"}})
		for range 3 {
			if got := r.post(chat()); got.status != http.StatusOK {
				t.Errorf("status %d", got.status)
			}
		}
		r.eventually("the log tells of it", func() bool { return strings.Contains(r.Log(), "traces could not be delivered") })
	})
}
