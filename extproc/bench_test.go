package extproc_test

import (
	"context"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/weir-gateway/weir/h2loop"
)

// BenchmarkChunkAboveNoop sends the chunks of streams over gRPC to weir's server
// and to one that replies and does nothing, by turns in one process, and reports
// how much more CPU time a chunk takes with weir's: the median over rounds. The
// client, the kernel and gRPC are the same for both and cancel out, and there is
// no pace, so that no thread is woken for a single chunk.
func BenchmarkChunkAboveNoop(b *testing.B) {
	r := newRig(b)
	b.Cleanup(func() { r.records() })
	weir := dial(b, func(c *h2loop.Call) h2loop.Receiver { return r.server.Process(c) })
	noop := dial(b, func(c *h2loop.Call) h2loop.Receiver { return noopCall{c} })
	var differences []float64
	for b.Loop() {
		w := cpuPerChunk(b, weir)
		n := cpuPerChunk(b, noop)
		differences = append(differences, w-n)
	}
	slices.Sort(differences)
	b.ReportMetric(differences[len(differences)/2], "µs/chunk-above-noop")
	b.ReportMetric(differences[0], "µs-least")
	b.ReportMetric(differences[len(differences)-1], "µs-most")
}

// noopCall replies to everything and reads nothing but what it is.
type noopCall struct{ call *h2loop.Call }

var (
	passBody = &extprocv3.ProcessingResponse{
		Response: &extprocv3.ProcessingResponse_ResponseBody{ResponseBody: &extprocv3.BodyResponse{}},
	}
	passHeaders = &extprocv3.ProcessingResponse{
		Response: &extprocv3.ProcessingResponse_ResponseHeaders{ResponseHeaders: &extprocv3.HeadersResponse{}},
	}
)

func (n noopCall) Receive(message []byte) error {
	in := &extprocv3.ProcessingRequest{}
	if err := proto.Unmarshal(message, in); err != nil {
		return err
	}
	if in.GetResponseBody() != nil {
		return n.call.Send(passBody)
	}
	return n.call.Send(passHeaders)
}

func (noopCall) End(error) {}

func dial(b *testing.B, process func(*h2loop.Call) h2loop.Receiver) extprocv3.ExternalProcessorClient {
	b.Helper()
	socket := filepath.Join(b.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	s := h2loop.New(h2loop.Options{
		Methods:    map[string]func(*h2loop.Call) h2loop.Receiver{extprocv3.ExternalProcessor_Process_FullMethodName: process},
		MaxMessage: 1 << 20, Panicked: func(p any) { b.Error(p) }, Failed: func(err error) { b.Error(err) },
	})
	go func() { _ = s.Serve(l) }()
	b.Cleanup(s.Stop)
	c, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	return extprocv3.NewExternalProcessorClient(c)
}

// cpuPerChunk runs streams at once and returns the process' CPU time a chunk, in µs.
func cpuPerChunk(b *testing.B, client extprocv3.ExternalProcessorClient) float64 {
	b.Helper()
	const streams, chunks = 8, 4000
	before := cpuTime(b)
	var running sync.WaitGroup
	for range streams {
		running.Go(func() {
			if err := play(b.Context(), client, chunks); err != nil {
				b.Error(err)
			}
		})
	}
	running.Wait()
	return float64((cpuTime(b) - before).Nanoseconds()) / 1000 / (streams * chunks)
}

// play is one stream of so many chunks.
func play(ctx context.Context, client extprocv3.ExternalProcessorClient, chunks int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := client.Process(ctx)
	if err != nil {
		return err
	}
	ask := func(m *extprocv3.ProcessingRequest) error {
		if err := s.Send(m); err != nil {
			return err
		}
		_, err := s.Recv()
		return err
	}
	x := request(chatPath, streamed)
	head := &corev3.HeaderMap{}
	for _, h := range x.Request {
		head.Headers = append(head.Headers, &corev3.HeaderValue{Key: h.Name, RawValue: []byte(h.Value)})
	}
	answer := &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
		{Key: ":status", RawValue: []byte("200")}, {Key: "content-type", RawValue: []byte("text/event-stream")},
	}}
	messages := []*extprocv3.ProcessingRequest{
		{Request: &extprocv3.ProcessingRequest_RequestHeaders{RequestHeaders: &extprocv3.HttpHeaders{Headers: head}}},
		{Request: &extprocv3.ProcessingRequest_RequestBody{RequestBody: &extprocv3.HttpBody{Body: x.Body, EndOfStream: true}}},
		{Request: &extprocv3.ProcessingRequest_ResponseHeaders{ResponseHeaders: &extprocv3.HttpHeaders{Headers: answer}}},
	}
	chunk := &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseBody{
		ResponseBody: &extprocv3.HttpBody{Body: []byte(benchChunk)},
	}}
	for range chunks {
		messages = append(messages, chunk)
	}
	for _, m := range messages {
		if err := ask(m); err != nil {
			return err
		}
	}
	return s.CloseSend()
}

// benchChunk is one event as vLLM sends it.
const benchChunk = `data: {"id":"chatcmpl-8ee47b87-88f8-47d0-8397-c80379be879e","object":"chat.completion.chunk","created":1795529039,` +
	`"model":"demo","choices":[{"index":0,"delta":{"content":" Hello"},"logprobs":null,"finish_reason":null,"token_ids":null}]}` + "\n\n"

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
