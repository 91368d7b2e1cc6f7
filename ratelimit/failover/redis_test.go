package failover

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/ratelimit/redisstore"
	"github.com/weir-gateway/weir/ratelimit/redistest"
)

// proxy stands before a Redis, and can swallow what it says.
type proxy struct {
	url     string
	swallow atomic.Bool
}

func newProxy(t *testing.T, addr string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{url: "redis://" + l.Addr().String()}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { p.serve(client, addr) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
	return p
}

func (p *proxy) serve(client net.Conn, addr string) {
	defer client.Close()
	server, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		if p.swallow.Load() {
			continue // it was carried out, and nobody hears of it
		}
		if _, err := client.Write(buf[:n]); err != nil {
			_ = server.Close()
			return
		}
	}
}

// pause is how long Redis is paused.
const pause = 1500 * time.Millisecond

// redisFault is something that befalls Redis.
type redisFault struct {
	name       string
	begin, end func(t *testing.T, s *redistest.Server, p *proxy)
	harmless   bool // Redis goes on deciding
	empty      bool // it comes back without what it knew
}

func redisFaults() []redisFault {
	do := func(args ...any) func(*testing.T, *redistest.Server, *proxy) {
		return func(t *testing.T, s *redistest.Server, _ *proxy) {
			t.Helper()
			s.Do(t, args...)
		}
	}
	nothing := func(*testing.T, *redistest.Server, *proxy) {}
	return []redisFault{
		{
			name:  "killed and restarted empty",
			begin: func(_ *testing.T, s *redistest.Server, _ *proxy) { s.Kill() },
			end:   func(t *testing.T, s *redistest.Server, _ *proxy) { s.Restart(t) },
			empty: true,
		},
		{
			name:  "stopped by SIGSTOP",
			begin: func(_ *testing.T, s *redistest.Server, _ *proxy) { s.Stop() },
			end:   func(_ *testing.T, s *redistest.Server, _ *proxy) { s.Continue() },
		},
		{
			name:  "CLIENT PAUSE",
			begin: do("CLIENT", "PAUSE", pause.Milliseconds(), "ALL"),
			end:   func(*testing.T, *redistest.Server, *proxy) { time.Sleep(pause) }, // it holds UNPAUSE up too
		},
		{name: "SCRIPT FLUSH", begin: do("SCRIPT", "FLUSH"), end: nothing, harmless: true},
		{name: "out of memory", begin: do("CONFIG", "SET", "maxmemory", "1"), end: do("CONFIG", "SET", "maxmemory", "0")},
		{name: "read only", begin: do("REPLICAOF", "127.0.0.1", "1"), end: do("REPLICAOF", "NO", "ONE")},
		{
			name:  "replies lost after execution",
			begin: func(_ *testing.T, _ *redistest.Server, p *proxy) { p.swallow.Store(true) },
			end:   func(_ *testing.T, _ *redistest.Server, p *proxy) { p.swallow.Store(false) },
		},
	}
}

// TestRedisFaults lets each fault meet each policy: every exchange is decided as
// its policy says, and in the end Redis counts each of them once.
func TestRedisFaults(t *testing.T) {
	for _, f := range redisFaults() {
		for _, policy := range []Policy{Open, Closed, Local} {
			t.Run(f.name+"/"+policy.String(), func(t *testing.T) { meet(t, f, policy) })
		}
	}
}

func meet(t *testing.T, f redisFault, policy Policy) {
	server := redistest.Start(t)
	p := newProxy(t, server.Addr)
	redis, err := redisstore.New(redisstore.Options{URL: p.url, Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer redis.Close()
	s := New(Options{Store: redis, Instance: 7})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) })
	defer running.Wait()
	defer cancel()

	x := &exchanges{t: t, s: s, policy: policy, charges: []ratelimit.Charge{
		{Limit: limit(t, "slots", ratelimit.Concurrency, 1000, 0), Scope: "key:a", Cost: 1},
		{Limit: limit(t, "tph", ratelimit.Tokens, 100_000, time.Hour), Scope: "key:a", Cost: 100},
	}}
	for range 5 {
		x.admitShared()
	}
	x.settleHalf()
	x.eventually("nothing is owed", func() bool { return s.Status().Debts == 0 })
	x.alone, x.refused, x.slowest = 0, 0, 0
	known := x.took // what an empty Redis forgets, and what lives is put back

	f.begin(t, server, p)
	for range 20 {
		x.admit()
		if len(x.live) > 3 {
			x.settleHalf()
		}
	}
	x.check(f.harmless)
	f.end(t, server, p)
	back := time.Now()
	slowest := x.slowest
	x.eventually("Redis is asked again", func() bool { return !s.Status().Away })
	recovered := time.Since(back)
	x.admitShared()
	for len(x.live) > 0 {
		x.settleHalf()
	}
	if n := s.Flush(t.Context()); n != 0 {
		t.Errorf("%d exchanges are owed", n)
	}
	if f.empty {
		x.took -= known
	}
	x.compare(redis, f.empty)
	t.Logf("slowest decision %v, Redis asked again after %v", slowest, recovered)
}

// exchanges are what a test does, and what it expects Redis to count.
type exchanges struct {
	t       *testing.T
	s       *Store
	policy  Policy
	charges []ratelimit.Charge

	live          []ratelimit.ID
	took          int64 // tokens of what was settled
	shared, alone int
	refused       int
	slowest       time.Duration
}

func (x *exchanges) admit() Mode {
	x.t.Helper()
	id := nextID()
	begin := time.Now()
	d, mode, err := x.s.Admit(x.t.Context(), id, x.charges, []Policy{x.policy, x.policy}, ratelimit.AdmitOptions{})
	x.slowest = max(x.slowest, time.Since(begin))
	switch {
	case errors.Is(err, ErrClosed):
		x.refused++
		return mode
	case err != nil || !d.Admitted:
		x.t.Fatalf("%+v, error %v", d, err)
	case mode == Shared:
		x.shared++
	default:
		x.alone++
	}
	x.live = append(x.live, id)
	return mode
}

// admitShared admits until Redis decides: where the machine is busy, it may not
// answer one in time.
func (x *exchanges) admitShared() {
	x.t.Helper()
	x.eventually("Redis decides", func() bool { return x.admit() == Shared })
}

func (x *exchanges) eventually(what string, so func() bool) {
	x.t.Helper()
	for begin := time.Now(); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			x.t.Fatalf("waited 10 s until %s", what)
		}
	}
}

// settleHalf ends the older half of what lives.
func (x *exchanges) settleHalf() {
	x.t.Helper()
	n := (len(x.live) + 1) / 2
	for _, id := range x.live[:n] {
		if err := x.s.Settle(x.t.Context(), id, []int64{0, 70}); err != nil {
			x.t.Fatal(err)
		}
		x.took += 70
	}
	x.live = x.live[n:]
}

// check looks at how the exchanges of the fault were decided.
func (x *exchanges) check(harmless bool) {
	x.t.Helper()
	switch {
	case harmless && x.alone+x.refused >= inARow:
		x.t.Errorf("%d were decided without Redis, %d refused; want none, or a few on a busy machine", x.alone, x.refused)
	case !harmless && x.policy == Closed && (x.refused != 20 || x.alone > 0):
		x.t.Errorf("%d refused and %d decided alone; want 20 refused", x.refused, x.alone)
	case !harmless && x.policy != Closed && x.alone != 20:
		x.t.Errorf("%d decided alone; want 20", x.alone)
	}
}

// compare wants Redis to count what was taken, and no slot.
func (x *exchanges) compare(redis ratelimit.Store, empty bool) {
	x.t.Helper()
	states, err := redis.Peek(x.t.Context(), x.charges)
	if err != nil {
		x.t.Fatal(err)
	}
	if states[0].Used != 0 {
		x.t.Errorf("%d slots are held", states[0].Used)
	}
	// Exchanges that lived while Redis was emptied are unknown to it when they
	// are settled: only the renewal, which this test does not wait for, puts
	// them back.
	low := x.took
	if empty {
		low -= 2 * 70
	}
	if used := states[1].Used; used > x.took || used < low {
		x.t.Errorf("Redis counts %d tokens, %d were taken", used, x.took)
	}
}
