package failover

import (
	"sync/atomic"
	"time"
)

const (
	// many calls at a time are a crowd. If the store falls silent at 3 000 calls a
	// second, fewer wait by the time that the first gives up.
	many = 64
	// lingers is for how long a crowd has the machine busy after it is through.
	lingers = time.Second
	// fresh is how long an answer of sampled stands.
	fresh = 2 * time.Millisecond
)

// crowd counts the calls in progress. It is safe for concurrent use.
type crowd struct {
	calls atomic.Int64
	seen  atomic.Int64 // when they were many last, in ns since the Unix epoch
}

func (c *crowd) enter(now time.Time) {
	if c.calls.Add(1) >= many {
		c.seen.Store(now.UnixNano())
	}
}

func (c *crowd) leave(now time.Time) {
	if c.calls.Add(-1) >= many-1 {
		c.seen.Store(now.UnixNano())
	}
}

// there tells whether there is one, or was a moment ago.
func (c *crowd) there(now time.Time) bool {
	return c.calls.Load() >= many || now.Sub(time.Unix(0, c.seen.Load())) < lingers
}

// sampled asks seldom: a thousand calls that wait and each look whether the machine
// is busy would be what keeps it so.
func sampled(ask func() bool) func() bool {
	var asked atomic.Int64
	var answer atomic.Bool
	return func() bool {
		now, last := time.Now().UnixNano(), asked.Load()
		if now-last >= int64(fresh) && asked.CompareAndSwap(last, now) {
			answer.Store(ask())
		}
		return answer.Load()
	}
}
