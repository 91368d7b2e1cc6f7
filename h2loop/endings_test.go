package h2loop

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// ending is a way for a call to end.
type ending struct {
	receive func(c *Call, e *events) error
	end     func(c *Call, e *events)
	client  func(r *rig, x talk, cancel, hangUp func())
	want    []string // what happens in the service
	code    codes.Code
	panics  []string
}

// goesWithItsContext has Go wait for the end of the call's context.
func goesWithItsContext(c *Call, e *events) error {
	c.Go(func() error {
		<-c.Context().Done()
		e.add("gone")
		return nil
	})
	return nil
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
			receive: goesWithItsContext,
			client:  func(_ *rig, _ talk, cancel, _ func()) { cancel() },
			want:    []string{"receive", "gone", "end the client has no use for the answer"}, code: codes.Canceled,
		},
		"half closed in Go": {
			receive: goesWithItsContext,
			client:  func(_ *rig, x talk, _, _ func()) { _ = x.CloseSend() },
			want:    []string{"receive", "gone", "end EOF"}, code: codes.OK,
		},
		"stopped in Go": {
			receive: goesWithItsContext,
			client:  func(r *rig, _ talk, _, _ func()) { r.stop() },
			want:    []string{"receive", "gone", "end the connection is gone"}, code: codes.Unavailable,
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
