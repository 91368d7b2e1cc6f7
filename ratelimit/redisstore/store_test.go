package redisstore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/ratelimit/redisstore"
	"github.com/weir-gateway/weir/ratelimit/redistest"
	"github.com/weir-gateway/weir/ratelimit/storetest"
)

func TestStore(t *testing.T) {
	redistest.Need(t)
	storetest.Run(t, steps, func(t *testing.T, clock *storetest.Clock) ratelimit.Store {
		shared.Flush(t)
		return virtual(t, clock)
	})
}

// virtual is a store on the shared server whose time is the clock's.
func virtual(t *testing.T, clock *storetest.Clock) *redisstore.Store {
	t.Helper()
	s, err := redisstore.NewVirtual(redisstore.Options{URL: shared.URL()}, clock.Now)
	return opened(t, s, err)
}

// opened has a store closed at the end of the test.
func opened(tb testing.TB, s *redisstore.Store, err error) *redisstore.Store {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
			tb.Error(err)
		}
	})
	return s
}

func newLimit(tb testing.TB, name string, unit ratelimit.Unit, most int64, window time.Duration) *ratelimit.Limit {
	tb.Helper()
	l, err := ratelimit.NewLimit(name, unit, most, window)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}
