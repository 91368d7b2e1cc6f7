package redispool_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"

	"github.com/weir-gateway/weir/ratelimit/redistest"
)

// shared is the server of the tests that do it no harm.
var shared *redistest.Server

func TestMain(m *testing.M) {
	logging.Disable() // of failures that tests bring about
	if redistest.Binary() != "" {
		var err error
		if shared, err = redistest.Launch(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	code := m.Run()
	if shared != nil {
		shared.Close()
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
