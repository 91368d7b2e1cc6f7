package redispool_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/ratelimit/redistest"
	"github.com/weir-gateway/weir/upstream/pool"
	"github.com/weir-gateway/weir/upstream/pool/redispool"
)

// patience is how long what should take a moment may take on a busy machine.
const patience = 10 * time.Second

// replica is a pool that runs with a client of its own.
type replica struct {
	*pool.Pool
	t      *testing.T
	mu     sync.Mutex
	failed []error
}

func newReplica(t *testing.T, addr string) *replica {
	t.Helper()
	network := "unix"
	if !strings.HasPrefix(addr, "/") {
		network = "tcp"
	}
	client := redis.NewClient(&redis.Options{
		Network: network, Addr: addr, Protocol: 2, DisableIdentity: true,
		MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true, DialTimeout: 300 * time.Millisecond,
	})
	r := &replica{t: t}
	var keys []pool.Key
	for i := range 3 {
		keys = append(keys, pool.Key{Label: string(rune('a' + i)), Secret: config.Secret(fmt.Sprintf("sk-canary-%d", i))})
	}
	r.Pool = pool.New(pool.Options{
		Upstream: "up", Share: redispool.New(client),
		ShareFailed: func(err error) { r.mu.Lock(); defer r.mu.Unlock(); r.failed = append(r.failed, err) },
	}, keys)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = r.Run(ctx, nil) })
	t.Cleanup(func() {
		stop()
		running.Wait()
		_ = client.Close()
	})
	return r
}

// attempt has a key get an outcome.
func (r *replica) attempt(label string, o pool.Outcome) {
	r.t.Helper()
	l, err := r.Pick(nil, func(k *pool.Key) bool { return k.Label != label })
	if err != nil {
		r.t.Fatal(err)
	}
	l.Done(o)
}

func (r *replica) states() string {
	var list []string
	for _, s := range r.Status() {
		list = append(list, s.State.String())
	}
	return strings.Join(list, " ")
}

func (r *replica) failures() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]error(nil), r.failed...)
}

// eventually waits, and answers how long it took.
func eventually(t *testing.T, what string, ok func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !ok() {
		if time.Since(begin) > patience {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(begin)
}

func (r *replica) becomes(states string) time.Duration {
	r.t.Helper()
	return eventually(r.t, states, func() bool { return r.states() == states })
}

func TestReplicas(t *testing.T) {
	redistest.Need(t)
	shared.Flush(t)
	a, b := newReplica(t, shared.Socket), newReplica(t, shared.Socket)
	a.attempt("a", pool.Outcome{Class: pool.RateLimited, RetryAfter: time.Minute})
	took := b.becomes("cooling healthy healthy")
	t.Logf("the other replica knew after %s", took.Round(time.Millisecond))
	if took > 3*time.Second { // a second on a machine that is not busy
		t.Errorf("the other replica knew after %s, want a second", took)
	}
	for range 10 {
		l, err := b.Pick(nil, nil)
		if err != nil || l.Key().Label == "a" {
			t.Fatalf("Pick = %v, %v; want b or c", l, err)
		}
		l.Done(pool.Outcome{Class: pool.OK})
	}
	if left := time.Until(b.Status()[0].Until); left < 45*time.Second || left > 61*time.Second {
		t.Errorf("it cools for %s there, want about a minute", left)
	}
	b.attempt("b", pool.Outcome{Class: pool.Rejected, Status: 401})
	b.Disable("c")
	a.becomes("cooling quarantined disabled")
	late := newReplica(t, shared.Socket)
	late.becomes("cooling quarantined disabled")
	late.Enable("c")
	late.Reset()
	a.becomes("healthy healthy healthy")
	b.becomes("healthy healthy healthy")
}

// TestRedisIsAway: what is known serves, and gets around when Redis is back with
// nothing of what it knew.
func TestRedisIsAway(t *testing.T) {
	server := redistest.Start(t)
	a, b := newReplica(t, server.Socket), newReplica(t, server.Socket)
	a.Disable("c")
	b.becomes("healthy healthy disabled")
	server.Kill()
	began := time.Now()
	a.attempt("a", pool.Outcome{Class: pool.RateLimited, RetryAfter: 5 * time.Minute})
	b.attempt("b", pool.Outcome{Class: pool.Rejected})
	if took := time.Since(began); took > time.Second {
		t.Errorf("two attempts took %s while Redis is away", took)
	}
	eventually(t, "both are told", func() bool { return len(a.failures()) == 1 && len(b.failures()) == 1 })
	if a.states() != "cooling healthy disabled" || b.states() != "healthy quarantined disabled" {
		t.Errorf("states = %q and %q, want what each has seen", a.states(), b.states())
	}
	if err := server.Up(); err != nil {
		t.Fatal(err)
	}
	a.becomes("cooling quarantined disabled")
	b.becomes("cooling quarantined disabled")
	newReplica(t, server.Socket).becomes("cooling quarantined disabled")
	for _, r := range []*replica{a, b} {
		eventually(t, "the end is told", func() bool { f := r.failures(); return len(f) == 2 && f[1] == nil })
	}
}

// TestRedisIsSilent: nobody waits for a server that does not answer.
func TestRedisIsSilent(t *testing.T) {
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server.Addr)
	a, b := newReplica(t, proxy.Addr), newReplica(t, server.Socket)
	a.Disable("a")
	b.becomes("disabled healthy healthy")
	proxy.Set(redistest.Faults{Hold: true})
	a.attempt("b", pool.Outcome{Class: pool.Unpaid})
	began := time.Now()
	for range 1000 {
		a.attempt("c", pool.Outcome{Class: pool.OK})
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("1000 attempts took %s while Redis is silent", took)
	}
	eventually(t, "it is told", func() bool { return len(a.failures()) > 0 })
	proxy.Set(redistest.Faults{})
	b.becomes("disabled quarantined healthy")
}

// TestNothingSecretIsShared reads all that is in Redis.
func TestNothingSecretIsShared(t *testing.T) {
	redistest.Need(t)
	shared.Flush(t)
	a, b := newReplica(t, shared.Socket), newReplica(t, shared.Socket)
	a.attempt("a", pool.Outcome{Class: pool.RateLimited, RetryAfter: time.Minute})
	a.attempt("b", pool.Outcome{Class: pool.Unpaid})
	a.Disable("c")
	b.becomes("cooling quarantined disabled")
	var all strings.Builder
	for _, key := range shared.Client.Keys(t.Context(), "*").Val() {
		fmt.Fprintf(&all, "%s %v\n", key, shared.Client.HGetAll(t.Context(), key).Val())
	}
	for _, want := range []string{"{weir0}:p:up", pool.KeyID("sk-canary-0"), "rate_limited", "quarantined"} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("Redis holds no %q:\n%s", want, all.String())
		}
	}
	for _, secret := range []string{"canary", "sk-"} {
		if strings.Contains(all.String(), secret) {
			t.Errorf("Redis holds %q:\n%s", secret, all.String())
		}
	}
}

func BenchmarkPollUnchanged(b *testing.B) {
	redistest.Need(b)
	shared.Flush(b)
	s := redispool.New(shared.Client)
	var v int64
	for i := range 100 {
		var err error
		if v, err = s.Publish(b.Context(), "up", pool.Entry{KeyID: fmt.Sprintf("uk_%010d", i), Parts: both}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := s.Poll(b.Context(), "up", v); err != nil {
			b.Fatal(err)
		}
	}
}
