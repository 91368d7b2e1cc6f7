package pool

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestProbes(t *testing.T) {
	for name, c := range map[string]struct {
		found, probe Outcome
		want         string
		probes       int
	}{
		"rejected, then valid":  {Outcome{Class: Rejected, Status: 401}, Outcome{Class: OK}, "healthy", 1},
		"unpaid, then on trial": {Outcome{Class: Unpaid, Status: 402}, Outcome{Class: OK}, "cooling", 1},
		"rejected still":        {Outcome{Class: Rejected, Status: 401}, Outcome{Class: Rejected, Status: 401}, "quarantined", 3},
		"limited says little":   {Outcome{Class: Rejected, Status: 401}, Outcome{Class: RateLimited, Status: 429}, "quarantined", 3},
		"no such endpoint":      {Outcome{Class: Rejected, Status: 401}, Outcome{Class: RequestFault, Status: 404}, "quarantined", 3},
		"does not come about":   {Outcome{Class: Rejected, Status: 401}, Outcome{Class: Disconnect}, "quarantined", 3},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(ctx context.Context, t *testing.T) {
				var mu sync.Mutex
				var times []time.Time
				r := startReplica(ctx, t, nil, 2, func(_ context.Context, k Key) Outcome {
					if k.Label != "a" {
						t.Errorf("probed %s, want a", k.Label)
					}
					mu.Lock()
					defer mu.Unlock()
					times = append(times, time.Now())
					return c.probe
				})
				begin := time.Now()
				r.attempt(t, c.found)
				r.want(t, probeEvery*9/10-time.Second, "quarantined healthy")
				mu.Lock()
				if len(times) != 0 {
					t.Errorf("probed after %s, want no sooner than %s", times[0].Sub(begin), probeEvery*9/10)
				}
				mu.Unlock()
				r.want(t, 12*time.Minute, c.want+" healthy")
				mu.Lock()
				defer mu.Unlock()
				if n := len(times); n < c.probes-1 || n > c.probes+1 || n < 1 {
					t.Errorf("%d probes, want about %d", n, c.probes)
				}
				if c.want == "cooling" {
					ids := []string{r.Status()[1].ID}
					l, err := r.Pick(ids, nil)
					if err != nil || !l.Trial() {
						t.Fatalf("Pick: %v, want a trial", err)
					}
					l.Done(c.found)
					r.want(t, 0, "quarantined healthy")
				}
			})
		})
	}
}

// TestProbeIsOvertaken: what a probe finds of a key that was reset and found bad
// again since is of no use; a key that is disabled is not probed.
func TestProbeIsOvertaken(t *testing.T) {
	inBubble(t, func(ctx context.Context, t *testing.T) {
		probing, answer := make(chan Key, 10), make(chan Outcome)
		r := startReplica(ctx, t, nil, 1, func(ctx context.Context, k Key) Outcome {
			probing <- k
			select {
			case o := <-answer:
				return o
			case <-ctx.Done():
				return Outcome{Class: Disconnect}
			}
		})
		r.attempt(t, Outcome{Class: Rejected})
		<-probing
		r.Reset()
		r.attempt(t, Outcome{Class: Rejected})
		answer <- Outcome{Class: OK}
		r.want(t, 0, "quarantined")
		r.Disable("a")
		r.want(t, time.Hour, "disabled")
		if n := len(probing); n != 0 {
			t.Errorf("%d probes of a key that is disabled", n)
		}
		r.Enable("a")
		<-probing // and ends with the context
	})
}

func TestManyProbesAreSpread(t *testing.T) {
	inBubble(t, func(ctx context.Context, t *testing.T) {
		const keys = 26
		p := New(Options{}, testKeys(keys))
		for range keys {
			l, err := p.Pick(nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			l.Done(Outcome{Class: Rejected})
		}
		time.Sleep(2 * probeEvery) // all are due
		var mu sync.Mutex
		now, most, all := 0, 0, 0
		go func() {
			_ = p.Run(ctx, func(context.Context, Key) Outcome {
				mu.Lock()
				now++
				all++
				most = max(most, now)
				mu.Unlock()
				time.Sleep(pollEvery / 2)
				mu.Lock()
				defer mu.Unlock()
				now--
				return Outcome{Class: OK}
			})
		}()
		time.Sleep(10 * pollEvery)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if most > probesATick || all != keys || p.Usable() != keys {
			t.Errorf("%d probes, up to %d at a time, %d usable; want %d, up to %d, %d", all, most, p.Usable(), keys, probesATick, keys)
		}
	})
}
