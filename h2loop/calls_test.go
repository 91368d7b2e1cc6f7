package h2loop

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// methods are those that Envoy calls.
func methods() map[string]func(*Call) Receiver {
	return map[string]func(*Call) Receiver{
		authv3.Authorization_Check_FullMethodName: func(c *Call) Receiver {
			who := c.Metadata("x-who")
			return receiver{receive: func(b []byte) error {
				in := &authv3.CheckRequest{}
				if err := proto.Unmarshal(b, in); err != nil {
					return err
				}
				return c.Send(&authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
					Headers: []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{
						Key: who, Value: in.GetAttributes().GetSource().GetPrincipal(),
					}}},
				}}})
			}}
		},
		extprocv3.ExternalProcessor_Process_FullMethodName: func(c *Call) Receiver {
			return receiver{receive: func(b []byte) error {
				in := &extprocv3.ProcessingRequest{}
				if err := proto.Unmarshal(b, in); err != nil {
					return err
				}
				return c.Send(&extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ImmediateResponse{
					ImmediateResponse: &extprocv3.ImmediateResponse{Body: in.GetRequestBody().GetBody()},
				}})
			}}
		},
		accesslogv3.AccessLogService_StreamAccessLogs_FullMethodName: func(c *Call) Receiver {
			n := 0
			return receiver{
				receive: func(b []byte) error {
					n++
					return proto.Unmarshal(b, &accesslogv3.StreamAccessLogsMessage{})
				},
				end: func(err error) {
					if n != 3 || !errors.Is(err, io.EOF) {
						panic(fmt.Sprintf("%d messages, then %v", n, err))
					}
					_ = c.Send(&accesslogv3.StreamAccessLogsResponse{})
				},
			}
		},
	}
}

func TestAUnaryCall(t *testing.T) {
	r := newRig(t, Options{Methods: methods()}, nil)
	client := authv3.NewAuthorizationClient(r.grpc())
	for i := range 100 {
		principal := strings.Repeat("p", i*i)
		out, err := client.Check(metadata.AppendToOutgoingContext(t.Context(), "x-who", "somebody"), &authv3.CheckRequest{
			Attributes: &authv3.AttributeContext{Source: &authv3.AttributeContext_Peer{Principal: principal}},
		})
		if err != nil {
			t.Fatal(err)
		}
		got := out.GetOkResponse().GetHeaders()[0].GetHeader()
		if got.GetKey() != "somebody" || got.GetValue() != principal {
			t.Fatalf("call %d: answer %v", i, out)
		}
	}
}

func TestABidirectionalCall(t *testing.T) {
	r := newRig(t, Options{Methods: methods()}, nil)
	x, err := extprocv3.NewExternalProcessorClient(r.grpc()).Process(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if err := x.Send(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{
			RequestBody: &extprocv3.HttpBody{Body: fmt.Append(nil, i)},
		}}); err != nil {
			t.Fatal(err)
		}
		out, err := x.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if got := string(out.GetImmediateResponse().GetBody()); got != strconv.Itoa(i) {
			t.Fatalf("message %d: answer %q", i, got)
		}
	}
	if err := x.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the call ends with %v", err)
	}
}

func TestAClientStreamingCall(t *testing.T) {
	r := newRig(t, Options{Methods: methods()}, nil)
	x, err := accesslogv3.NewAccessLogServiceClient(r.grpc()).StreamAccessLogs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := x.Send(&accesslogv3.StreamAccessLogsMessage{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := x.CloseAndRecv(); err != nil {
		t.Error(err)
	}
	if p := r.panics.all(); len(p) > 0 {
		t.Errorf("panics: %q", p)
	}
}

func TestMetadataIsSeen(t *testing.T) {
	seen := newEvents()
	r := newRig(t, Options{}, func(c *Call) Receiver {
		seen.add("%s|%s|%s", c.Metadata("one"), c.Metadata("two"), c.Metadata("three"))
		return receiver{}
	})
	x := r.call(metadata.AppendToOutgoingContext(t.Context(), "one", "1", "two", "zwei, 2", "two", "more"), r.grpc())
	if err := x.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := x.wait(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"1|zwei, 2|"}, seen.all()); diff != "" {
		t.Error(diff)
	}
}

func TestTheStatusOfAnErrorArrives(t *testing.T) {
	for name, tt := range map[string]struct {
		err     error
		begun   bool // there are messages before
		code    codes.Code
		message string
	}{
		"plain":               {err: errors.New("no"), code: codes.Unknown, message: "no"},
		"of gRPC":             {err: status.Error(codes.DataLoss, "lost"), code: codes.DataLoss, message: "lost"},
		"wrapped":             {err: fmt.Errorf("at last: %w", status.Error(codes.Aborted, "x")), code: codes.Aborted, message: "at last: rpc error: code = Aborted desc = x"},
		"after a message":     {err: status.Error(codes.NotFound, "gone"), begun: true, code: codes.NotFound, message: "gone"},
		"without a message":   {err: status.Error(codes.NotFound, ""), code: codes.NotFound},
		"not ASCII":           {err: status.Error(codes.Internal, "Größe: 漢字 🙂"), code: codes.Internal, message: "Größe: 漢字 🙂"},
		"percent":             {err: status.Error(codes.Internal, "100 % of %41 %"), code: codes.Internal, message: "100 % of %41 %"},
		"lines":               {err: status.Error(codes.Internal, "a\r\nb\tc\x00\x7f"), code: codes.Internal, message: "a\r\nb\tc\x00\x7f"},
		"126 bytes":           {err: status.Error(codes.Internal, strings.Repeat("x", 126)), code: codes.Internal, message: strings.Repeat("x", 126)},
		"127 bytes":           {err: status.Error(codes.Internal, strings.Repeat("x", 127)), code: codes.Internal, message: strings.Repeat("x", 127)},
		"255 bytes":           {err: status.Error(codes.Internal, strings.Repeat("x", 255)), code: codes.Internal, message: strings.Repeat("x", 255)},
		"longer than a frame": {err: status.Error(codes.Internal, strings.Repeat("ä%", 20_000)), code: codes.Internal, message: strings.Repeat("ä%", 20_000)},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{}, func(c *Call) Receiver {
				return receiver{receive: func([]byte) error {
					if tt.begun {
						_ = c.Send(message([]byte("first")))
					}
					return tt.err
				}}
			})
			conn := r.grpc()
			x := r.call(t.Context(), conn)
			got, err := x.ask("question")
			if tt.begun {
				if err != nil || got != "first" {
					t.Fatalf("first %q, %v", got, err)
				}
				_, err = x.receive()
			}
			if s := status.Convert(err); s.Code() != tt.code || s.Message() != tt.message {
				t.Errorf("status %v %q, want %v %q", s.Code(), s.Message(), tt.code, tt.message)
			}
			// The connection is as good as before.
			if err := r.call(t.Context(), conn).send([]byte("another")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAnUnknownMethodIsUnimplemented(t *testing.T) {
	r := newRig(t, Options{}, echo)
	conn := r.grpc()
	for _, path := range []string{"/test.Service/Other", "/x/" + strings.Repeat("long", 5000)} {
		var out []byte
		err := conn.Invoke(t.Context(), path, []byte("x"), &out, grpc.ForceCodec(bytesCodec{}))
		if s := status.Convert(err); s.Code() != codes.Unimplemented || !strings.Contains(s.Message(), path) {
			t.Errorf("%.20s: error %v", path, err)
		}
	}
	if got, err := r.call(t.Context(), conn).ask("still there"); err != nil || got != "still there" {
		t.Errorf("another call: %q, %v", got, err)
	}
}

func TestACompressedMessageIsUnimplemented(t *testing.T) {
	r := newRig(t, Options{Methods: methods()}, nil)
	_, err := authv3.NewAuthorizationClient(r.grpc()).Check(t.Context(), &authv3.CheckRequest{
		Attributes: &authv3.AttributeContext{ContextExtensions: map[string]string{"key": strings.Repeat("value", 100)}},
	}, grpc.UseCompressor(gzip.Name))
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("error %v", err)
	}
}

func TestAMessageThatIsTooLongEndsItsCall(t *testing.T) {
	const most = 100_000
	for _, tt := range []struct {
		length int
		code   codes.Code
	}{
		{most, codes.OK},
		{most + 1, codes.ResourceExhausted},
		{10 * most, codes.ResourceExhausted},
	} {
		ends := newEvents()
		r := newRig(t, Options{MaxMessage: most}, func(c *Call) Receiver {
			return receiver{
				receive: func(b []byte) error { return c.Send(message(b)) },
				end:     func(err error) { ends.add("%v", status.Code(err)) },
			}
		})
		conn := r.grpc()
		x := r.call(t.Context(), conn)
		b, err := x.ask(strings.Repeat("x", tt.length))
		if status.Code(err) != tt.code {
			t.Errorf("%d bytes: %v, want %v", tt.length, err, tt.code)
		}
		if tt.code == codes.OK {
			if len(b) != tt.length {
				t.Errorf("%d bytes: %d came back", tt.length, len(b))
			}
			continue
		}
		if got, err := r.call(t.Context(), conn).ask("another"); err != nil || got != "another" {
			t.Errorf("another call: %q, %v", got, err)
		}
		_ = conn.Close()
		ends.await(t, 2) // with the other call's
		r.stop()
		got := ends.all()
		slices.Sort(got)
		if diff := cmp.Diff([]string{"ResourceExhausted", "Unknown"}, got); diff != "" {
			t.Errorf("%d bytes: ends\n%s", tt.length, diff)
		}
	}
}

func TestAMessageThatCannotBeEncodedEndsItsCallAlone(t *testing.T) {
	r := newRig(t, Options{}, func(c *Call) Receiver {
		return receiver{receive: func(b []byte) error {
			if string(b) == "bad" {
				return c.Send(&wrapperspb.StringValue{Value: "\xff"})
			}
			return c.Send(message(b))
		}}
	})
	conn := r.grpc()
	other := r.call(t.Context(), conn)
	if _, err := other.ask("before"); err != nil {
		t.Fatal(err)
	}
	for _, first := range []bool{true, false} {
		x := r.call(t.Context(), conn)
		if !first {
			if got, err := x.ask("good"); err != nil || got != "good" {
				t.Fatalf("before it: %q, %v", got, err)
			}
		}
		_, err := x.ask("bad")
		if s := status.Convert(err); s.Code() != codes.Internal || !strings.Contains(s.Message(), "encoded") {
			t.Errorf("first %v: error %v", first, err)
		}
		if got, err := other.ask("after"); err != nil || got != "after" {
			t.Errorf("another call: %q, %v", got, err)
		}
	}
}

// random are bytes that are not like others.
func random(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += 1 + r.IntN(8) {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestMessagesOfAllSizesGoBothWays(t *testing.T) {
	r := newRig(t, Options{}, echo)
	source := rand.New(rand.NewPCG(1, 2))
	x := r.call(t.Context(), r.grpc())
	for _, n := range []int{
		0, 1, 2, 4, 5, 6, 0, 16<<10 - 6, 16<<10 - 5, 16<<10 - 4, 16<<10 - 1, 16 << 10, 16<<10 + 1,
		64<<10 - 1, 64 << 10, 64<<10 + 1, 0, 1 << 20, 8 << 20, 1,
	} {
		want := random(source, n)
		if err := x.send(want); err != nil {
			t.Fatal(err)
		}
		got, err := x.receive()
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: %d others came back", n, len(got))
		}
	}
}

func TestSeveralCallsAtOnce(t *testing.T) {
	r := newRig(t, Options{}, echo)
	conn := r.grpc()
	var running sync.WaitGroup
	for i := range uint64(8) {
		running.Go(func() {
			source := rand.New(rand.NewPCG(3, i))
			x := r.call(t.Context(), conn)
			var sent [][]byte
			for range 40 {
				sent = append(sent, random(source, source.IntN(1<<source.IntN(19))))
			}
			// All are on their way before the first is taken back.
			running.Go(func() {
				for _, b := range sent {
					if err := x.send(b); err != nil {
						t.Errorf("call %d: %v", i, err)
					}
				}
				_ = x.CloseSend()
			})
			for n, want := range sent {
				got, err := x.receive()
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("call %d, message %d of %d bytes: %d came back, %v", i, n, len(want), len(got), err)
					return
				}
			}
			if err := x.wait(); err != nil {
				t.Errorf("call %d ends with %v", i, err)
			}
		})
	}
	running.Wait()
}
