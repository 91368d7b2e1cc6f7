package redisstore_test

import (
	"testing"

	"github.com/weir-gateway/weir/ratelimit/redistest"
)

// shared is the server of the tests that do it no harm.
var shared *redistest.Server

func TestMain(m *testing.M) { redistest.Main(m, &shared) }
