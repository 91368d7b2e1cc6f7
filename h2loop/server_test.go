package h2loop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
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

// ending is a way for a call to end.
type ending struct {
	receive func(c *Call, e *events) error
	end     func(c *Call, e *events)
	client  func(r *rig, x talk, cancel, hangUp func())
	want    []string // what happens in the service
	code    codes.Code
	panics  []string
}

func endings() map[string]ending {
	nothing := func(*rig, talk, func(), func()) {}
	return map[string]ending{
		"half closed": {
			client: func(_ *rig, x talk, _, _ func()) { _ = x.CloseSend() },
			want:   []string{"receive", "end EOF"}, code: codes.OK,
		},
		"cancelled": {
			client: func(_ *rig, _ talk, cancel, _ func()) { cancel() },
			want:   []string{"receive", "end the client has no use for the answer"}, code: codes.Canceled,
		},
		"hung up": {
			client: func(_ *rig, _ talk, _, hangUp func()) { hangUp() },
			want:   []string{"receive", "end the connection is gone"}, code: codes.Canceled,
		},
		"stopped": {
			client: func(r *rig, _ talk, _, _ func()) { r.stop() },
			want:   []string{"receive", "end the connection is gone"}, code: codes.Unavailable,
		},
		"an error of Receive": {
			receive: func(*Call, *events) error { return status.Error(codes.OutOfRange, "far") },
			client:  nothing,
			want:    []string{"receive", "end rpc error: code = OutOfRange desc = far"}, code: codes.OutOfRange,
		},
		"an error of Receive, after Go": {
			receive: func(c *Call, e *events) error {
				c.Go(func() error {
					<-c.Context().Done()
					e.add("gone")
					return nil
				})
				return status.Error(codes.OutOfRange, "far")
			},
			client: nothing,
			want:   []string{"receive", "gone", "end rpc error: code = OutOfRange desc = far"}, code: codes.OutOfRange,
		},
		"an error of Go": {
			receive: func(c *Call, _ *events) error {
				c.Go(func() error { return status.Error(codes.DataLoss, "lost") })
				return nil
			},
			client: nothing,
			want:   []string{"receive", "end rpc error: code = DataLoss desc = lost"}, code: codes.DataLoss,
		},
		"an error of Go, of End": {
			end: func(c *Call, e *events) {
				c.Go(func() error {
					e.add("gone")
					return status.Error(codes.DataLoss, "lost")
				})
			},
			client: func(_ *rig, x talk, _, _ func()) { _ = x.CloseSend() },
			want:   []string{"receive", "end EOF", "gone"}, code: codes.DataLoss,
		},
		"Go within Go": {
			receive: func(c *Call, e *events) error {
				c.Go(func() error {
					c.Go(func() error {
						e.add("gone far")
						return nil
					})
					e.add("gone")
					return nil
				})
				return nil
			},
			client: func(_ *rig, x talk, _, _ func()) { _ = x.CloseSend() },
			want:   []string{"receive", "gone far", "gone", "end EOF"}, code: codes.OK,
		},
		"cancelled in Go": {
			receive: func(c *Call, e *events) error {
				c.Go(func() error {
					<-c.Context().Done()
					e.add("gone")
					return nil
				})
				return nil
			},
			client: func(_ *rig, _ talk, cancel, _ func()) { cancel() },
			want:   []string{"receive", "gone", "end the client has no use for the answer"}, code: codes.Canceled,
		},
		"half closed in Go": {
			receive: func(c *Call, e *events) error {
				c.Go(func() error {
					<-c.Context().Done()
					e.add("gone")
					return nil
				})
				return nil
			},
			client: func(_ *rig, x talk, _, _ func()) { _ = x.CloseSend() },
			want:   []string{"receive", "gone", "end EOF"}, code: codes.OK,
		},
		"stopped in Go": {
			receive: func(c *Call, e *events) error {
				c.Go(func() error {
					<-c.Context().Done()
					e.add("gone")
					return nil
				})
				return nil
			},
			client: func(r *rig, _ talk, _, _ func()) { r.stop() },
			want:   []string{"receive", "gone", "end the connection is gone"}, code: codes.Unavailable,
		},
		"a panic in Receive": {
			receive: func(*Call, *events) error { panic("ouch") },
			client:  nothing,
			want:    []string{"receive", "end rpc error: code = Internal desc = the server met a bug"}, code: codes.Internal,
			panics: []string{"ouch"},
		},
		"a panic in Go": {
			receive: func(c *Call, _ *events) error {
				c.Go(func() error { panic("ouch") })
				return nil
			},
			client: nothing,
			want:   []string{"receive", "end rpc error: code = Internal desc = the server met a bug"}, code: codes.Internal,
			panics: []string{"ouch"},
		},
		"a panic in End": {
			end:    func(*Call, *events) { panic("ouch") },
			client: func(_ *rig, x talk, _, _ func()) { _ = x.CloseSend() },
			want:   []string{"receive", "end EOF"}, code: codes.Internal,
			panics: []string{"ouch"},
		},
		"panics in Receive and in End": {
			receive: func(*Call, *events) error { panic("ouch") },
			end:     func(*Call, *events) { panic("ouch again") },
			client:  nothing,
			want:    []string{"receive", "end rpc error: code = Internal desc = the server met a bug"}, code: codes.Internal,
			panics: []string{"ouch", "ouch again"},
		},
	}
}

func TestEndComesOnceAndLast(t *testing.T) {
	for name, tt := range endings() {
		for _, early := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, context asked for early: %v", name, early), func(t *testing.T) {
				e, ended := newEvents(), make(chan struct{})
				var call *Call
				r := newRig(t, Options{}, func(c *Call) Receiver {
					if call = c; early {
						context.AfterFunc(c.Context(), func() { close(ended) })
					}
					return receiver{
						receive: func(b []byte) error {
							e.add("receive")
							if tt.receive != nil {
								return tt.receive(c, e)
							}
							return c.Send(message(b))
						},
						end: func(err error) {
							e.add("end %v", err)
							if tt.end != nil {
								tt.end(c, e)
							}
						},
					}
				})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				conn := r.grpc()
				x := r.call(ctx, conn)
				if err := x.send([]byte("question")); err != nil {
					t.Fatal(err)
				}
				e.await(t, 1)
				tt.client(r, x, cancel, func() { _ = conn.Close() })
				if err := x.wait(); status.Code(err) != tt.code {
					t.Errorf("the client sees %v, want %v", err, tt.code)
				}
				e.await(t, len(tt.want))
				if early {
					await(t, "the context", ended)
				}
				_ = conn.Close()
				r.stop()
				if err := call.Context().Err(); err == nil {
					t.Error("a context asked for late has not ended")
				}
				if diff := cmp.Diff(tt.want, e.all()); diff != "" {
					t.Errorf("what happens:\n%s", diff)
				}
				if diff := cmp.Diff(tt.panics, r.panics.all()); diff != "" {
					t.Errorf("panics:\n%s", diff)
				}
				if err := call.Send(message(nil)); err == nil {
					t.Error("after the end a message is sent")
				}
			})
		}
	}
}

func TestAPanicEndsItsCallAlone(t *testing.T) {
	for _, where := range []string{"method", "receive", "go", "end"} {
		t.Run(where, func(t *testing.T) {
			contexts := make(chan context.Context, 1)
			r := newRig(t, Options{}, func(c *Call) Receiver {
				where := c.Metadata("at")
				if where == "method" {
					contexts <- c.Context()
					panic("at method")
				}
				return receiver{
					receive: func(b []byte) error {
						switch where {
						case "receive":
							panic("at receive")
						case "go":
							c.Go(func() error { panic("at go") })
							return nil
						}
						return c.Send(message(b))
					},
					end: func(error) {
						if where == "end" {
							panic("at end")
						}
					},
				}
			})
			conn := r.grpc()
			other := r.call(t.Context(), conn)
			if got, err := other.ask("before"); err != nil || got != "before" {
				t.Fatalf("before: %q, %v", got, err)
			}
			x := r.call(metadata.AppendToOutgoingContext(t.Context(), "at", where), conn)
			_ = x.send([]byte("question")) // it may have ended
			_ = x.CloseSend()
			if err := x.wait(); status.Code(err) != codes.Internal {
				t.Errorf("the client sees %v", err)
			}
			if where == "method" {
				await(t, "the context of a call whose method panicked", (<-contexts).Done())
			}
			if diff := cmp.Diff([]string{"at " + where}, r.panics.all()); diff != "" {
				t.Errorf("panics:\n%s", diff)
			}
			if got, err := other.ask("after"); err != nil || got != "after" {
				t.Errorf("after: %q, %v", got, err)
			}
		})
	}
}

func TestStopEndsWhatIsOpen(t *testing.T) {
	const calls = 10
	var ends, left atomic.Int32
	begun := newEvents()
	r := newRig(t, Options{}, func(c *Call) Receiver {
		return receiver{
			receive: func(b []byte) error {
				if string(b) == "stay" {
					begun.add("stay")
					return nil
				}
				c.Go(func() error {
					begun.add("go")
					<-c.Context().Done()
					left.Add(1)
					return nil
				})
				return nil
			},
			end: func(error) { ends.Add(1) },
		}
	})
	conn := r.grpc()
	var open []talk
	for i := range calls {
		x := r.call(t.Context(), conn)
		what := "stay"
		if i%2 == 0 {
			what = "go"
		}
		if err := x.send([]byte(what)); err != nil {
			t.Fatal(err)
		}
		open = append(open, x)
	}
	begun.await(t, calls)
	r.stop()
	if ends.Load() != calls || left.Load() != calls/2 {
		t.Errorf("when Stop returns, %d of %d calls have ended, and %d of %d that were left to Go", ends.Load(), calls, left.Load(), calls/2)
	}
	for _, x := range open {
		if err := x.wait(); status.Code(err) != codes.Unavailable {
			t.Errorf("a client sees %v", err)
		}
	}
	if err := <-r.served; err != nil {
		t.Errorf("Serve returns %v", err)
	}
	r.stop() // again
}

func TestServeAfterStopReturnsAtOnce(t *testing.T) {
	s := New(Options{})
	s.Stop()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l); err != nil {
		t.Errorf("Serve returns %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is open: %v", err)
	}
}

func TestServeTellsWhyItEnds(t *testing.T) {
	s := New(Options{})
	defer s.Stop()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve returns %v", err)
	}
}

// TestSendFromAnywhere has goroutines send while calls end in all ways.
func TestSendFromAnywhere(t *testing.T) {
	var senders sync.WaitGroup
	r := newRig(t, Options{}, func(c *Call) Receiver {
		for i := range 3 {
			senders.Go(func() {
				b := bytes.Repeat([]byte("x"), 10<<(5*i))
				sendAll(c, message(b))
				if c.Send(message(b)) == nil {
					t.Error("a message is sent after one could not be")
				}
			})
		}
		return receiver{receive: func(b []byte) error {
			if string(b) == "fail" {
				return status.Error(codes.Aborted, "failed")
			}
			return nil
		}}
	})
	conn := r.grpc()
	for i := range 12 {
		ctx, cancel := context.WithCancel(t.Context())
		x := r.call(ctx, conn)
		for range 20 {
			if _, err := x.receive(); err != nil {
				t.Fatal(err)
			}
		}
		switch i % 3 {
		case 0:
			cancel()
			if err := x.wait(); status.Code(err) != codes.Canceled {
				t.Errorf("cancelled: %v", err)
			}
		case 1:
			_ = x.CloseSend()
			if err := x.wait(); err != nil {
				t.Errorf("half closed: %v", err)
			}
		default:
			_ = x.send([]byte("fail"))
			if err := x.wait(); status.Code(err) != codes.Aborted {
				t.Errorf("failed: %v", err)
			}
		}
		cancel()
	}
	x := r.call(t.Context(), conn)
	if _, err := x.receive(); err != nil {
		t.Fatal(err)
	}
	r.stop()
	r.within("the last Send", senders.Wait)
}

// http returns a client of the standard library's kind.
func (r *rig) http() *http.Client {
	tr := &http.Transport{DialContext: dialer(r.address), Protocols: &http.Protocols{}}
	tr.Protocols.SetUnencryptedHTTP2(true)
	r.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: long}
}

// post sends a plain request and returns the head of the answer, which has no body.
func (r *rig) post(c *http.Client, path string, body []byte) (status int, header http.Header) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, "http://weir"+path, bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || len(b) > 0 {
		r.t.Errorf("body %q, %v", b, err)
	}
	return resp.StatusCode, resp.Header
}

func TestPlainRequests(t *testing.T) {
	const most = 200_000
	r := newRig(t, Options{MaxMessage: most, Plain: func(r *Request) {
		switch r.Path {
		case "/twice":
			r.Reply(http.StatusAccepted, Header{"x-answer", "first"})
			r.Reply(http.StatusTeapot, Header{"x-answer", "second"})
		case "/go":
			r.Go(func() { r.Reply(http.StatusCreated, Header{"x-answer", string(r.Body)}) })
		case "/go/twice":
			r.Go(func() { r.Reply(http.StatusCreated, Header{"x-answer", "first"}) })
			r.Go(func() { r.Reply(http.StatusTeapot, Header{"x-answer", "second"}) })
		case "/panic":
			panic("ouch")
		case "/go/panic":
			r.Go(func() { panic("ouch") })
		case "/panic/late":
			r.Reply(http.StatusAccepted)
			panic("ouch")
		default:
			r.Reply(http.StatusOK, Header{"x-path", r.Path}, Header{"x-answer", r.Method + " " + strconv.Itoa(len(r.Body))})
		}
	}}, nil)
	c := r.http()
	for _, tt := range []struct {
		path   string
		body   string
		status int
		answer string
		panics int
	}{
		{path: "/p?q=1&r=%20", body: "body", status: 200, answer: "POST 4"},
		{path: "/", status: 200, answer: "POST 0"},
		{path: "/", body: strings.Repeat("x", most), status: 200, answer: "POST 200000"},
		{path: "/", body: strings.Repeat("x", most+1), status: 413},
		{path: "/twice", status: 202, answer: "first"},
		{path: "/go", body: "body", status: 201, answer: "body"},
		{path: "/go/twice", status: 201, answer: "first"},
		{path: "/panic", status: 500, panics: 1},
		{path: "/go/panic", status: 500, panics: 1},
		{path: "/panic/late", status: 202, panics: 1},
		{path: "/", body: "again", status: 200, answer: "POST 5"},
	} {
		before := len(r.panics.all())
		status, header := r.post(c, tt.path, []byte(tt.body))
		if status != tt.status || header.Get("x-answer") != tt.answer {
			t.Errorf("%s: %d %v, want %d %q", tt.path, status, header, tt.status, tt.answer)
		}
		if tt.status == http.StatusOK && header.Get("x-path") != tt.path {
			t.Errorf("%s: path %q", tt.path, header.Get("x-path"))
		}
		r.panics.await(t, before+tt.panics)
	}
	if got := len(r.panics.all()); got != 3 {
		t.Errorf("%d panics, want 3", got)
	}
}

func TestWithoutPlainThereIsNothing(t *testing.T) {
	r := newRig(t, Options{}, echo)
	if got, _ := r.post(r.http(), "/", []byte("body")); got != http.StatusNotFound {
		t.Errorf("status %d", got)
	}
}

func TestStopWaitsForPlainRequests(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	var done atomic.Bool
	r := newRig(t, Options{Plain: func(r *Request) {
		r.Go(func() {
			close(begun)
			<-release
			done.Store(true)
			r.Reply(http.StatusOK) // to nobody
		})
	}}, nil)
	c := r.http()
	failed := make(chan error, 1)
	go func() {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://weir/", http.NoBody)
		if err == nil {
			var resp *http.Response
			if resp, err = c.Do(req); err == nil {
				_ = resp.Body.Close()
			}
		}
		failed <- err
	}()
	await(t, "a request", begun)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		r.server.Stop()
	}()
	if err := <-failed; err == nil {
		t.Error("the client is not told that the connection is gone")
	}
	select {
	case <-stopped:
		t.Error("Stop does not wait")
	default:
	}
	close(release)
	await(t, "Stop", stopped)
	if !done.Load() {
		t.Error("what Go began has not ended when Stop returns")
	}
}

// stubborn is a listener that fails before it takes a connection.
type stubborn struct {
	net.Listener
	fails atomic.Int32
}

func (s *stubborn) Accept() (net.Conn, error) {
	if s.fails.Add(-1) >= 0 {
		return nil, syscall.EMFILE
	}
	return s.Listener.Accept()
}

func TestTooManyOpenFilesPass(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	var told atomic.Int32
	s := New(Options{MaxMessage: 1, Failed: func(err error) {
		if errors.Is(err, syscall.EMFILE) {
			told.Add(1)
		}
	}})
	failing := &stubborn{Listener: l}
	failing.fails.Store(2)
	done := make(chan error, 1)
	go func() { done <- s.Serve(failing) }()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 9)); err != nil { // the server's SETTINGS
		t.Errorf("no answer after two failures: %v", err)
	}
	s.Stop()
	if err := <-done; err != nil || told.Load() != 2 {
		t.Errorf("served: %v, told of %d failures, want 2", err, told.Load())
	}
}
