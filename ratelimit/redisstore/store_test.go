package redisstore_test

import (
	"testing"

	"github.com/weir-gateway/weir/ratelimit"
	"github.com/weir-gateway/weir/ratelimit/redisstore"
	"github.com/weir-gateway/weir/ratelimit/redistest"
	"github.com/weir-gateway/weir/ratelimit/storetest"
)

func TestStore(t *testing.T) {
	redistest.Need(t)
	storetest.Run(t, func(t *testing.T, clock *storetest.Clock) ratelimit.Store {
		shared.Flush(t)
		s, err := redisstore.NewVirtual(redisstore.Options{URL: shared.URL()}, clock.Now)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	})
}
