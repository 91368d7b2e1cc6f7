package redisstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/ratelimit/redisstore"
	"github.com/weir-gateway/weir/ratelimit/redistest"
)

// fixture is a store in real time, with a limit of 100 requests an hour and one
// of 50 slots.
type fixture struct {
	*testing.T
	store *redisstore.Store
	hour  ratelimit.Charge
	slot  ratelimit.Charge
	seq   uint64
}

// Where the test does not say for how long calls may take it is long, since the
// machine may be busy.
func newFixture(t *testing.T, opts redisstore.Options) *fixture {
	t.Helper()
	if opts.Timeout == 0 {
		opts.Timeout, opts.Silence = 20*time.Second, 20*time.Second
	}
	s, err := redisstore.New(opts)
	return &fixture{
		T: t, store: opened(t, s, err),
		hour: ratelimit.Charge{Limit: newLimit(t, "rph", ratelimit.Requests, 100, time.Hour), Scope: "key:a", Cost: 1},
		slot: ratelimit.Charge{Limit: newLimit(t, "slots", ratelimit.Concurrency, 50, 0), Scope: "key:a", Cost: 1},
	}
}

func (f *fixture) id() ratelimit.ID {
	f.seq++
	return ratelimit.ID{Instance: 5, Seq: f.seq}
}

func (f *fixture) admit(id ratelimit.ID) error {
	f.Helper()
	d, err := f.store.Admit(f.Context(), id, []ratelimit.Charge{f.hour, f.slot}, ratelimit.AdmitOptions{})
	if err == nil && !d.Admitted {
		f.Fatalf("Admit = %+v, want it admitted", d)
	}
	return err
}

func (f *fixture) mustAdmit() ratelimit.ID {
	f.Helper()
	id := f.id()
	if err := f.admit(id); err != nil {
		f.Fatalf("Admit = error %v", err)
	}
	return id
}

// must fails if a call did.
func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// used wants so many requests and slots in use.
func (f *fixture) used(requests, slots int64) {
	f.Helper()
	states, err := f.store.Peek(f.Context(), []ratelimit.Charge{f.hour, f.slot})
	if err != nil {
		f.Fatal(err)
	}
	if states[0].Used != requests || states[1].Used != slots {
		f.Errorf("%d requests and %d slots are used, want %d and %d", states[0].Used, states[1].Used, requests, slots)
	}
}

// again repeats a call for as long as the store is away.
func again(t *testing.T, call func() error) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := call()
		if err == nil {
			return
		}
		if !errors.Is(err, ratelimit.ErrUnavailable) && !errors.Is(err, ratelimit.ErrUnknown) || time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func TestScriptFlush(t *testing.T) {
	redistest.Need(t)
	shared.Flush(t)
	f := newFixture(t, redisstore.Options{URL: shared.URL()})
	open := f.mustAdmit()
	shared.Do(t, "script", "flush")
	ended := f.mustAdmit()
	f.must(f.store.Settle(t.Context(), ended, []int64{1, 0}))
	shared.Do(t, "script", "flush")
	_, err := f.store.Renew(t.Context(), []ratelimit.ID{open})
	f.must(err)
	f.must(f.store.Cancel(t.Context(), open))
	f.used(1, 0)
}

// TestScriptFlushUnderLoad: those of a pipeline that find no script are run
// again, and no other.
func TestScriptFlushUnderLoad(t *testing.T) {
	redistest.Need(t)
	shared.Flush(t)
	f := newFixture(t, redisstore.Options{URL: shared.URL(), Connections: 1})
	ids := make([]ratelimit.ID, 80)
	done := make(chan error, 2*len(ids))
	for i := range ids {
		ids[i] = f.id()
		go func() {
			_, err := f.store.Admit(t.Context(), ids[i], []ratelimit.Charge{f.hour}, ratelimit.AdmitOptions{})
			done <- err
		}()
		go func() { done <- f.store.Settle(t.Context(), ratelimit.ID{Instance: 9, Seq: uint64(i)}, nil) }()
		if i%10 == 0 {
			shared.Do(t, "script", "flush")
		}
	}
	for range 2 * len(ids) {
		f.must(<-done)
	}
	f.used(int64(len(ids)), 0)
}

func TestRestartEmpty(t *testing.T) {
	server := redistest.Start(t)
	f := newFixture(t, redisstore.Options{URL: server.URL()})
	lost := f.mustAdmit()
	server.Kill()
	if err := f.admit(f.id()); !errors.Is(err, ratelimit.ErrUnavailable) {
		t.Errorf("Admit without a server = error %v, want %v", err, ratelimit.ErrUnavailable)
	}
	f.must(server.Up())
	again(t, func() error { return f.store.Ping(t.Context()) })
	f.used(0, 0)

	got, err := f.store.Renew(t.Context(), []ratelimit.ID{lost})
	if err != nil || len(got) != 1 {
		t.Fatalf("Renew after the loss = %v, error %v, want it lost", got, err)
	}
	_, err = f.store.Admit(t.Context(), lost, []ratelimit.Charge{f.hour, f.slot}, ratelimit.AdmitOptions{Force: true})
	f.must(err)
	f.used(1, 1)
	f.must(f.store.Settle(t.Context(), lost, nil))
	f.used(1, 0)
}

// TestPaused: what the server comes to only after its caller has given up
// charges nothing, though nobody cancels it.
func TestPaused(t *testing.T) {
	server := redistest.Start(t)
	for name, halt := range map[string]struct{ begin, end func() }{
		"CLIENT PAUSE": {
			func() { server.Do(t, "client", "pause", 1000, "all") },
			func() { time.Sleep(1100 * time.Millisecond) },
		},
		"SIGSTOP": {server.Stop, server.Continue},
	} {
		t.Run(name, func(t *testing.T) {
			server.Flush(t)
			f := newFixture(t, redisstore.Options{URL: server.TCP(), Timeout: 150 * time.Millisecond})
			f.mustAdmit()
			halt.begin()
			for range 3 {
				if err := f.admit(f.id()); !errors.Is(err, ratelimit.ErrUnknown) {
					t.Errorf("Admit = error %v, want %v", err, ratelimit.ErrUnknown)
				}
			}
			time.Sleep(50 * time.Millisecond)
			halt.end()
			again(t, func() error { return f.store.Ping(t.Context()) })
			f.used(1, 1)
		})
	}
}

// TestClientGone: its end neither costs a connection nor leaves a charge that
// nobody knows of.
func TestClientGone(t *testing.T) {
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server.Addr)
	f := newFixture(t, redisstore.Options{URL: proxy.URL(), Connections: 1})
	f.mustAdmit()
	before := server.Client.Info(t.Context(), "stats").Val()
	proxy.Set(redistest.Faults{Delay: 4 * time.Millisecond})
	var admitted int64
	for range 50 {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Millisecond)
		d, err := f.store.Admit(ctx, f.id(), []ratelimit.Charge{f.hour, f.slot}, ratelimit.AdmitOptions{})
		cancel()
		switch {
		case err == nil && d.Admitted:
			admitted++
		case !errors.Is(err, ratelimit.ErrTooLate) && !errors.Is(err, context.DeadlineExceeded):
			t.Fatalf("Admit = %+v, error %v", d, err)
		}
	}
	proxy.Set(redistest.Faults{})
	f.used(1+admitted, 1+admitted)
	if got, want := connections(server.Client.Info(t.Context(), "stats").Val()), connections(before); got != want {
		t.Errorf("%s, want still %s", got, want)
	}
}

// connections is the line that counts those that were accepted.
func connections(info string) string {
	_, rest, _ := strings.Cut(info, "total_connections_received:")
	count, _, _ := strings.Cut(rest, "\r")
	return count + " connections accepted"
}

func TestOutOfMemory(t *testing.T) {
	server := redistest.Start(t)
	f := newFixture(t, redisstore.Options{URL: server.URL()})
	settled, canceled, renewed, slotless := f.mustAdmit(), f.mustAdmit(), f.mustAdmit(), f.id()
	_, err := f.store.Admit(t.Context(), slotless, []ratelimit.Charge{f.hour}, ratelimit.AdmitOptions{})
	f.must(err)
	server.Do(t, "config", "set", "maxmemory", "1")
	id := f.id()
	err = f.admit(id)
	if !errors.Is(err, ratelimit.ErrUnavailable) || !errors.Is(err, ratelimit.ErrFull) {
		t.Errorf("Admit without memory = error %v, want %v and %v", err, ratelimit.ErrUnavailable, ratelimit.ErrFull)
	}
	f.used(4, 3)
	f.must(f.store.Settle(t.Context(), slotless, []int64{0}))
	f.must(f.store.Settle(t.Context(), settled, []int64{0, 0}))
	f.must(f.store.Cancel(t.Context(), canceled))
	lost, err := f.store.Renew(t.Context(), []ratelimit.ID{settled, renewed})
	if err != nil || lost != nil {
		t.Errorf("Renew = %v, error %v", lost, err)
	}
	f.used(1, 1)
	server.Do(t, "config", "set", "maxmemory", "0")
	f.must(f.admit(id))
	f.used(2, 2)
}

func TestReadOnly(t *testing.T) {
	server := redistest.Start(t)
	f := newFixture(t, redisstore.Options{URL: server.URL()})
	id := f.mustAdmit()
	server.Do(t, "replicaof", "127.0.0.1", "1")
	calls := map[string]func() error{
		"Admit":  func() error { return f.admit(f.id()) },
		"Settle": func() error { return f.store.Settle(t.Context(), id, nil) },
		"Cancel": func() error { return f.store.Cancel(t.Context(), id) },
		"Renew": func() error {
			_, err := f.store.Renew(t.Context(), []ratelimit.ID{id})
			return err
		},
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, ratelimit.ErrUnavailable) {
			t.Errorf("%s on a replica = error %v, want %v", name, err, ratelimit.ErrUnavailable)
		}
	}
	server.Do(t, "replicaof", "no", "one")
	f.used(1, 1)
	f.must(f.store.Cancel(t.Context(), id))
	f.used(0, 0)
}

// TestReplyLost: the server did it, and nobody heard. The same ID again is
// charged once, and a cancel gives it back.
func TestReplyLost(t *testing.T) {
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server.Addr)
	f := newFixture(t, redisstore.Options{URL: proxy.URL()})
	f.must(f.store.Ping(t.Context()))
	lose := func(call func() error) {
		t.Helper()
		proxy.Set(redistest.Faults{CutReplies: 1})
		if err := call(); !errors.Is(err, ratelimit.ErrUnknown) {
			t.Errorf("error %v, want %v", err, ratelimit.ErrUnknown)
		}
		proxy.Set(redistest.Faults{})
	}
	repeated, canceled := f.id(), f.id()
	lose(func() error { return f.admit(repeated) })
	f.must(f.admit(repeated))
	f.used(1, 1)
	lose(func() error { return f.admit(canceled) })
	f.must(f.store.Cancel(t.Context(), canceled))
	f.used(1, 1)
	settle := func() error { return f.store.Settle(t.Context(), repeated, []int64{3, 0}) }
	lose(settle)
	f.must(settle())
	f.used(3, 0)
}

// TestOvertaken: a cancel that reaches the server before its admit.
func TestOvertaken(t *testing.T) {
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server.Addr)
	slow := newFixture(t, redisstore.Options{URL: proxy.URL(), Timeout: 5 * time.Second, Silence: 200 * time.Millisecond})
	fast := newFixture(t, redisstore.Options{URL: server.URL()})
	slow.must(slow.store.Cancel(t.Context(), slow.mustAdmit())) // the server knows the scripts
	id := slow.id()
	proxy.Set(redistest.Faults{Hold: true})
	if err := slow.admit(id); !errors.Is(err, ratelimit.ErrUnknown) {
		t.Errorf("Admit = error %v, want %v", err, ratelimit.ErrUnknown)
	}
	fast.must(fast.store.Cancel(t.Context(), id))
	proxy.Set(redistest.Faults{})
	time.Sleep(100 * time.Millisecond)
	fast.used(0, 0)
}
