package e2e

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"

	"github.com/weir-gateway/weir/authz"
	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/extproc"
	"github.com/weir-gateway/weir/extproc/extproctest"
	"github.com/weir-gateway/weir/gateway"
	"github.com/weir-gateway/weir/h2loop"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/ratelimit/memstore"
	"github.com/weir-gateway/weir/telemetry"
	"github.com/weir-gateway/weir/upstream"
)

var update = flag.Bool("update", false, "rewrite the recorded transcripts")

// recorder writes down what Envoy and an ext_proc server say to each other.
type recorder struct {
	mu    sync.Mutex
	lines []string
	ended chan struct{}
}

// call records one call of Process.
func (r *recorder) call(server *extproc.Server, c *h2loop.Call) h2loop.Receiver {
	return &recordedReceiver{Receiver: server.Process(recordedCall{c, r}), r: r}
}

func (r *recorder) add(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.lines
	r.lines = nil
	return lines
}

type recordedCall struct {
	*h2loop.Call
	r *recorder
}

func (c recordedCall) Send(m proto.Message) error {
	if out, ok := m.(*extprocv3.ProcessingResponse); ok {
		c.r.add("< " + extproctest.DescribeResponse(out))
	}
	return c.Call.Send(m)
}

type recordedReceiver struct {
	h2loop.Receiver
	r *recorder
}

func (r *recordedReceiver) Receive(message []byte) error {
	in := &extprocv3.ProcessingRequest{}
	if err := proto.Unmarshal(message, in); err != nil {
		return err
	}
	r.r.add("> " + extproctest.DescribeRequest(in))
	return r.Receiver.Receive(message)
}

func (r *recordedReceiver) End(err error) {
	r.Receiver.End(err)
	r.r.ended <- struct{}{}
}

// lab is weir's servers in this process, with a real Envoy in front of them.
type lab struct {
	url      string
	server   *extproc.Server
	recorder *recorder
}

func newLab(t *testing.T, upstreamURL string) *lab {
	t.Helper()
	u, err := url.Parse(upstreamURL + "/v1")
	if err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{
		Listen:    "127.0.0.1:0",
		Upstreams: []config.Upstream{{Name: "up", URL: u, Connect: time.Second, Idle: config.DefaultIdleTimeout, FirstByte: config.DefaultIdleTimeout}},
		Models:    []config.Model{{Name: "m", Upstreams: []string{"up"}}},
		Envoy:     config.Envoy{Concurrency: 1, MaxRequestBytes: 1 << 20},
	}
	models, err := upstream.New(cfg, upstream.Options{})
	if err != nil {
		t.Fatal(err)
	}
	keys, metrics := keyring.Fixed(map[string]*keyring.Key{goodKey: {ID: "good"}}), telemetry.NewMetrics()
	g, err := gateway.New(gateway.Options{
		Config: cfg, Models: models, Keys: keys, Limits: gateway.Direct(memstore.New(memstore.Options{})), Metrics: metrics, Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	callers := authz.New(keys, notDenied, metrics)
	l := &lab{server: extproc.New(callers, g, extproc.Options{}, zerolog.Nop()), recorder: &recorder{ended: make(chan struct{}, 10)}}
	sockets, err := envoy.SocketsIn(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l.serve(t, sockets, callers)
	l.url = runEnvoy(t, cfg, sockets)
	return l
}

func notDenied(*keyring.Key, openai.Endpoint, string, telemetry.TraceContext, time.Time) *openai.Error {
	return nil
}

func (l *lab) serve(t *testing.T, sockets envoy.Sockets, a *authz.Server) {
	t.Helper()
	listener, err := net.Listen("unix", sockets.GRPC)
	if err != nil {
		t.Fatal(err)
	}
	s := h2loop.New(h2loop.Options{
		Methods: map[string]func(*h2loop.Call) h2loop.Receiver{
			authv3.Authorization_Check_FullMethodName:          a.Check,
			extprocv3.ExternalProcessor_Process_FullMethodName: func(c *h2loop.Call) h2loop.Receiver { return l.recorder.call(l.server, c) },
		},
		MaxMessage: 2 << 20, Panicked: func(p any) { t.Error(p) }, Failed: func(err error) { t.Error(err) },
	})
	go func() { _ = s.Serve(listener) }()
	t.Cleanup(s.Stop)
}

// startEnvoy runs Envoy for the length of the test.
func startEnvoy(t *testing.T, b *bootstrapv3.Bootstrap) *envoy.Process {
	t.Helper()
	binary, err := envoy.Find(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	p, err := envoy.Start(t.Context(), binary, b, 1, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

// runEnvoy runs Envoy for the length of the test and returns its URL.
func runEnvoy(t *testing.T, cfg *config.Config, sockets envoy.Sockets) string {
	t.Helper()
	b, err := envoy.Bootstrap(cfg, sockets, envoy.SystemCA())
	if err != nil {
		t.Fatal(err)
	}
	p := startEnvoy(t, b)
	addr, err := p.Admin.Listening(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + addr
}

// scene is an exchange that both Envoy and the driver play.
type scene struct {
	name   string
	body   string // "" sends none
	status int    // of the upstream; 0 resets the connection instead
	mime   string
	length bool // with a content-length
	chunks []string
	gone   bool // the client leaves after the chunks
	reset  bool // the upstream breaks off after the chunks
	local  []extproctest.Header
	unsent bool // no upstream takes part
}

const streamBody = `{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}`

func scenes() []scene {
	const (
		word  = `data: {"choices":[{"index":0,"delta":{"content":" word"}}]}` + "\n\n"
		usage = `data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}` + "\n\n"
		done  = "data: [DONE]\n\n"
		plain = `{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}`
	)
	sse := func(s scene) scene {
		s.body, s.status, s.mime = streamBody, 200, "text/event-stream"
		return s
	}
	return []scene{
		sse(scene{name: "stream", chunks: []string{word, word, usage, done}}),
		sse(scene{name: "stream-usage-in-two", chunks: []string{word + usage[:20], usage[20:] + done}}),
		sse(scene{name: "stream-client-gone", chunks: []string{word, word}, gone: true}),
		sse(scene{name: "stream-upstream-reset", chunks: []string{word, word}, reset: true}),
		sse(scene{name: "stream-without-body"}),
		{name: "plain", body: chat(), status: 200, mime: "application/json", length: true, chunks: []string{plain}},
		{name: "plain-chunked", body: chat(), status: 200, mime: "application/json", chunks: []string{plain[:10], plain[10:]}},
		{name: "upstream-400", body: chat(), status: 400, mime: "application/json", length: true, chunks: []string{`{"error":{"message":"no"}}`}},
		{name: "upstream-401", body: chat(), status: 401, mime: "application/json", length: true, chunks: []string{`{"error":"no"}`}},
		{
			name: "upstream-reset-at-once", body: chat(), status: 502, mime: "application/json", length: true, reset: true,
			local: []extproctest.Header{{Name: "x-weir-error-source", Value: "gateway"}},
		},
		{name: "refused", body: `{"model":"m"}`, unsent: true},
		{name: "no-body", unsent: true},
	}
}

// serveScene is the upstream of a scene. Chunks are far enough apart for Envoy
// to see each by itself.
func serveScene(s scene) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if len(s.local) > 0 {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", s.mime)
		if s.length {
			w.Header().Set("Content-Length", fmt.Sprint(len(strings.Join(s.chunks, ""))))
		}
		w.WriteHeader(s.status)
		flush(w)
		for _, c := range s.chunks {
			_, _ = io.WriteString(w, c)
			flush(w)
		}
		switch {
		case s.gone:
			<-r.Context().Done()
		case s.reset:
			panic(http.ErrAbortHandler)
		}
	}
}

func flush(w http.ResponseWriter) {
	_ = http.NewResponseController(w).Flush()
	time.Sleep(80 * time.Millisecond)
}

// TestTranscripts keeps the driver of extproctest honest: what a real Envoy says
// in each scene is recorded, and the driver must say the same.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	for _, s := range scenes() {
		t.Run(s.name, func(t *testing.T) {
			server := httptest.NewServer(serveScene(s))
			defer server.Close()
			l := newLab(t, server.URL)
			recorded := strings.Join(l.play(t, s), "\n") + "\n"
			golden := filepath.Join("testdata", "transcripts", s.name+".txt")
			if *update {
				writeFile(t, golden, recorded)
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), recorded); diff != "" {
				t.Errorf("Envoy says something else than when it was recorded (-recorded +now):\n%s", diff)
			}
			result, err := extproctest.Run(t.Context(), l.server.Process, s.exchange())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), strings.Join(result.Transcript, "\n")+"\n"); diff != "" {
				t.Errorf("the driver says something else than Envoy (-Envoy +driver):\n%s", diff)
			}
		})
	}
}

// play sends the scene's request through Envoy and returns what was recorded.
func (l *lab) play(t *testing.T, s scene) []string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var body io.Reader
	if s.body != "" {
		body = strings.NewReader(s.body)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url+"/v1/chat/completions", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+goodKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if s.gone {
		if _, err := io.ReadFull(resp.Body, make([]byte, len(strings.Join(s.chunks, "")))); err != nil {
			t.Fatal(err)
		}
		cancel()
	} else {
		_, _ = io.Copy(io.Discard, resp.Body)
	}
	select {
	case <-l.recorder.ended:
	case <-time.After(10 * time.Second):
		t.Fatal("Envoy did not end the stream")
	}
	return l.recorder.take()
}

// exchange is the scene as the driver plays it.
func (s scene) exchange() extproctest.Exchange {
	x := extproctest.Exchange{Request: []extproctest.Header{
		{Name: ":authority", Value: "weir"},
		{Name: ":path", Value: "/v1/chat/completions"},
		{Name: "content-type", Value: "application/json"},
		{Name: "x-request-id", Value: "r"},
		{Name: "authorization", Value: "Bearer " + goodKey},
	}}
	if s.body != "" {
		x.Body = []byte(s.body)
	}
	if s.unsent {
		return x
	}
	x.Answer = &extproctest.Answer{
		Headers: append([]extproctest.Header{
			{Name: ":status", Value: fmt.Sprint(s.status)}, {Name: "content-type", Value: s.mime},
		}, s.local...),
	}
	if s.gone || s.reset && len(s.local) == 0 {
		x.Answer.End = extproctest.Gone
	}
	for _, c := range s.chunks {
		x.Answer.Chunks = append(x.Answer.Chunks, []byte(c))
	}
	return x
}
