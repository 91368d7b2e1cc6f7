package redisstore_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/ratelimit/redisstore"
	"github.com/weir-gateway/weir/ratelimit/redistest"
	"github.com/weir-gateway/weir/ratelimit/storetest"
)

// TestSentinel kills the master under load. Every exchange repeats its admit
// until it is answered; the new master then counts each at most once, and all
// whose answer came from it.
func TestSentinel(t *testing.T) {
	watched := redistest.StartWatched(t)
	f := newFixture(t, redisstore.Options{URL: watched.URL(), Timeout: time.Second})
	hour := ratelimit.Charge{Limit: newLimit(t, "site", ratelimit.Requests, 1e9, time.Hour), Scope: "", Cost: 1}
	var begun, after atomic.Int64
	var over atomic.Bool // the new master answers
	var clients sync.WaitGroup
	stop := make(chan struct{})
	for n := range 8 {
		clients.Go(func() {
			for seq := uint64(1); ; seq++ {
				id := ratelimit.ID{Instance: uint64(100 + n), Seq: seq}
				begun.Add(1)
				switched := over.Load()
				again(t, func() error {
					_, err := f.store.Admit(t.Context(), id, []ratelimit.Charge{hour}, ratelimit.AdmitOptions{})
					return err
				})
				if switched {
					after.Add(1)
				}
				select {
				case <-stop:
					return
				case <-time.After(2 * time.Millisecond):
				}
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	killed := time.Now()
	watched.Servers[0].Kill()
	for redistest.Replica(t.Context(), watched.Servers[1].Client) {
		time.Sleep(10 * time.Millisecond)
	}
	again(t, func() error { return f.store.Ping(t.Context()) })
	t.Logf("failover took %s", time.Since(killed).Round(time.Millisecond))
	over.Store(true)
	time.Sleep(300 * time.Millisecond)
	close(stop)
	clients.Wait()
	states, err := f.store.Peek(t.Context(), []ratelimit.Charge{hour})
	f.must(err)
	if used := states[0].Used; used > begun.Load() || used < after.Load() || after.Load() == 0 {
		t.Errorf("%d used of %d exchanges, %d of which came after the failover", used, begun.Load(), after.Load())
	}
}

func TestCluster(t *testing.T) {
	cluster := redistest.StartCluster(t)
	t.Run("store", func(t *testing.T) {
		storetest.Run(t, 300, func(t *testing.T, clock *storetest.Clock) ratelimit.Store {
			cluster.Flush(t)
			s, err := redisstore.NewVirtual(redisstore.Options{URL: cluster.URL()}, clock.Now)
			return opened(t, s, err)
		})
	})
	t.Run("slot moves", func(t *testing.T) {
		cluster.Flush(t)
		f := newFixture(t, redisstore.Options{URL: cluster.URL()})
		f.mustAdmit()
		f.used(1, 1)
		from := cluster.Holder(t)
		cluster.Flush(t)
		cluster.Move(t, "{weir0}", (from+1)%3)
		f.mustAdmit() // is sent on by the node that had the slot
		if holder := cluster.Holder(t); holder != (from+1)%3 {
			t.Errorf("node %d has the keys, want %d", holder, (from+1)%3)
		}
		f.used(1, 1)
	})
	t.Run("node dies", func(t *testing.T) {
		f := newFixture(t, redisstore.Options{URL: cluster.URL(), Timeout: time.Second})
		f.mustAdmit()
		holder := cluster.Nodes[cluster.Holder(t)]
		holder.Kill()
		if err := f.admit(f.id()); err == nil {
			t.Error("Admit without the node = nil, want an error")
		}
		f.must(holder.Up())
		again(t, func() error { return f.store.Ping(t.Context()) })
		f.mustAdmit()
	})
}
