package redisstore_test

import (
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/ratelimit/redisstore"
	"github.com/weir-gateway/weir/ratelimit/redistest"
)

// TestNothingStays: at any time every key has a time to live, no longer than
// what is in it counts, and some time after the last call there is none.
func TestNothingStays(t *testing.T) {
	server := redistest.Start(t)
	const lease, receipt, tombstone, slack = 250 * time.Millisecond, 600 * time.Millisecond, 300 * time.Millisecond, 100 * time.Millisecond
	s, err := redisstore.NewShortLived(redisstore.Options{URL: server.URL()}, lease, receipt, tombstone, slack)
	opened(t, s, err)
	stop := make(chan struct{})
	var running sync.WaitGroup
	for n := range 3 {
		running.Go(func() { live(t, s, uint64(n), stop) })
	}
	// The longest window counts for B+1 steps; the time key for a tick more.
	const most = 440*time.Millisecond + receipt + slack
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); {
		eachTTL(t, server, func(key string, ttl time.Duration) {
			if ttl < 0 || ttl > most {
				t.Errorf("key %s lives for %s, want up to %s", key, ttl, most)
			}
		})
	}
	close(stop)
	running.Wait()
	time.Sleep(most + 100*time.Millisecond)
	eachTTL(t, server, func(key string, _ time.Duration) { t.Errorf("key %s is left", key) })
}

// TestDeadLeasesLeave: a set that is always in use does not keep the leases of
// those that died.
func TestDeadLeasesLeave(t *testing.T) {
	redistest.Need(t)
	shared.Flush(t)
	const lease = 50 * time.Millisecond
	s, err := redisstore.NewShortLived(redisstore.Options{URL: shared.URL()}, lease, time.Second, time.Second, time.Second)
	opened(t, s, err)
	slot := ratelimit.Charge{Limit: newLimit(t, "slots", ratelimit.Concurrency, 1e6, 0), Scope: "", Cost: 1}
	admitted := uint64(0)
	for end := time.Now().Add(400 * time.Millisecond); time.Now().Before(end); admitted++ {
		if _, err := s.Admit(t.Context(), ratelimit.ID{Seq: admitted}, []ratelimit.Charge{slot}, ratelimit.AdmitOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	kept := uint64(shared.Do(t, "zcard", "{weir0}:c:"+slot.Limit.ID().String()+":").(int64))
	if kept > admitted/2 {
		t.Errorf("%d leases of %d are kept, though each lived for an eighth of the time", kept, admitted)
	}
}

// live makes calls of all kinds until it is stopped, and leaves some exchanges
// without an end.
func live(t *testing.T, s *redisstore.Store, instance uint64, stop chan struct{}) {
	charges := []ratelimit.Charge{
		{Limit: newLimit(t, "short", ratelimit.Requests, 50, 100*time.Millisecond), Scope: "key:a", Cost: 1},
		{Limit: newLimit(t, "long", ratelimit.Tokens, 500, 400*time.Millisecond), Scope: "key:a", Cost: 5},
		{Limit: newLimit(t, "slots", ratelimit.Concurrency, 20, 0), Scope: strconv.FormatUint(instance, 10), Cost: 1},
	}
	for seq := uint64(1); ; seq++ {
		select {
		case <-stop:
			return
		default:
		}
		id := ratelimit.ID{Instance: instance, Seq: seq}
		_, err := s.Admit(t.Context(), id, charges[:1+rand.IntN(3)], ratelimit.AdmitOptions{Force: rand.IntN(9) == 0})
		switch what := rand.IntN(6); {
		case what == 0 && instance > 0:
			_, err = s.Renew(t.Context(), []ratelimit.ID{id, {Instance: instance, Seq: seq - 1}})
		case what == 1, what == 2:
			err = s.Settle(t.Context(), id, nil)
		case what == 3:
			err = s.Cancel(t.Context(), id)
		case what == 4:
			_, err = s.Peek(t.Context(), charges)
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
}

// eachTTL goes over all keys that there are. One that expires meanwhile is none.
func eachTTL(t *testing.T, server *redistest.Server, f func(key string, ttl time.Duration)) {
	t.Helper()
	keys := server.Client.Scan(t.Context(), 0, "*", 1000).Iterator()
	for keys.Next(t.Context()) {
		ttl := server.Client.PTTL(t.Context(), keys.Val()).Val()
		if gone := ttl == -2; !gone {
			f(keys.Val(), ttl)
		}
	}
	if err := keys.Err(); err != nil {
		t.Fatal(err)
	}
}

// TestLongWindowKeepsTheHash: a short window in the same scope does not take the
// long one along.
func TestLongWindowKeepsTheHash(t *testing.T) {
	redistest.Need(t)
	shared.Flush(t)
	const slack = 50 * time.Millisecond
	s, err := redisstore.NewShortLived(redisstore.Options{URL: shared.URL()}, time.Second, time.Second, time.Second, slack)
	opened(t, s, err)
	long := ratelimit.Charge{Limit: newLimit(t, "long", ratelimit.Requests, 50, time.Hour), Scope: "key:a", Cost: 1}
	short := ratelimit.Charge{Limit: newLimit(t, "short", ratelimit.Requests, 50, 50*time.Millisecond), Scope: "key:a", Cost: 1}
	for seq, charges := range [][]ratelimit.Charge{{long}, {short}, {short}} {
		if _, err := s.Admit(t.Context(), ratelimit.ID{Seq: uint64(seq)}, charges, ratelimit.AdmitOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond)
	states, err := s.Peek(t.Context(), []ratelimit.Charge{long, short})
	if err != nil || states[0].Used != 1 || states[1].Used != 0 {
		t.Errorf("states = %+v, error %v, want 1 used of the long one and 0 of the short one", states, err)
	}
}
