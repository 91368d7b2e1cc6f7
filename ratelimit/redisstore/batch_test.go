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

// TestCallsGoTogether: what comes during a round trip shares the next one.
func TestCallsGoTogether(t *testing.T) {
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server.Addr)
	f := newFixture(t, redisstore.Options{URL: proxy.URL(), Connections: 1})
	f.must(f.store.Ping(t.Context()))
	proxy.Set(redistest.Faults{Hold: true})
	const calls = 100
	done := make(chan error, calls)
	for range calls {
		id := f.id()
		go func() {
			_, err := f.store.Admit(t.Context(), id, []ratelimit.Charge{f.hour}, ratelimit.AdmitOptions{})
			done <- err
		}()
	}
	time.Sleep(30 * time.Millisecond)
	proxy.Set(redistest.Faults{Delay: 20 * time.Millisecond})
	begun := time.Now()
	for range calls {
		f.must(<-done)
	}
	if took := time.Since(begun); took > 500*time.Millisecond {
		t.Errorf("%d calls took %s, want some round trips of up to 40ms", calls, took)
	}
	f.used(calls, 0)
}

// TestQueueIsBounded: a server that hangs is not waited for by everybody, and
// what was never sent is known not to have happened.
func TestQueueIsBounded(t *testing.T) {
	server := redistest.Start(t)
	f := newFixture(t, redisstore.Options{URL: server.URL(), Connections: 1, MaxQueue: 3, Timeout: 90 * time.Millisecond})
	f.must(f.store.Ping(t.Context()))
	server.Stop()
	errs := make(chan error, 10)
	ctx, cancel := context.WithCancel(t.Context())
	for i := range 10 {
		id := f.id()
		go func() {
			with := t.Context()
			if i == 1 {
				with = ctx
			}
			_, err := f.store.Admit(with, id, []ratelimit.Charge{f.hour}, ratelimit.AdmitOptions{})
			errs <- err
		}()
		time.Sleep(2 * time.Millisecond)
	}
	cancel()
	var unknown, canceled, full, late int
	for range 10 {
		switch err := <-errs; {
		case errors.Is(err, ratelimit.ErrUnknown):
			unknown++
		case errors.Is(err, context.Canceled):
			canceled++
		case errors.Is(err, ratelimit.ErrUnavailable) && strings.Contains(err.Error(), "waiting already"):
			full++
		case errors.Is(err, ratelimit.ErrUnavailable):
			late++
		default:
			t.Errorf("Admit = error %v", err)
		}
	}
	// The two that waited may have been sent at the last moment.
	if unknown < 1 || unknown+late != 3 || canceled != 1 || full != 6 {
		t.Errorf("%d unknown, %d not sent in time, %d canceled, %d found no room; want 3 of the first two, 1 and 6", unknown, late, canceled, full)
	}
	server.Continue()
	again(t, func() error { return f.store.Ping(t.Context()) })
	f.used(0, 0)
}

func TestClosed(t *testing.T) {
	redistest.Need(t)
	f := newFixture(t, redisstore.Options{URL: shared.URL()})
	f.must(f.store.Close())
	if err := f.admit(f.id()); !errors.Is(err, ratelimit.ErrUnavailable) {
		t.Errorf("Admit on a closed store = error %v, want %v", err, ratelimit.ErrUnavailable)
	}
}

// TestErrorsHideThePassword: neither a server that is away nor one that does not
// let us in is told with it.
func TestErrorsHideThePassword(t *testing.T) {
	server := redistest.Start(t, "--requirepass", "right")
	away := strings.Replace(server.TCP(), server.Addr, "weir:hunter2@127.0.0.1:1", 1)
	wrong := strings.Replace(server.TCP(), "redis://", "redis://:hunter2@", 1)
	for _, url := range []string{away, wrong} {
		f := newFixture(t, redisstore.Options{URL: url})
		err := f.admit(f.id())
		if !errors.Is(err, ratelimit.ErrUnavailable) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Admit at %s = error %v, want %v without the password", url, err, ratelimit.ErrUnavailable)
		}
	}
	f := newFixture(t, redisstore.Options{URL: wrong, Password: "right"})
	f.mustAdmit()
}
