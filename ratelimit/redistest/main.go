package redistest

import (
	"fmt"
	"os"
	"testing"

	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"
)

// Main is TestMain of packages whose tests share a server, as long as they do it no
// harm: it starts one, unless there is no redis-server, runs the tests, and looks
// for goroutines that are left.
func Main(m *testing.M, shared **Server) {
	logging.Disable() // of failures that tests bring about
	if Binary() != "" {
		var err error
		if *shared, err = Launch(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	code := m.Run()
	if *shared != nil {
		(*shared).Close()
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
