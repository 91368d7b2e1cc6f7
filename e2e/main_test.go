// Package e2e tests weir as its users meet it: the real binary, a real Envoy,
// requests over real sockets. The upstream is the simulator, whose ledger is
// the judge of what really happened.
package e2e

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/weir-gateway/weir/e2e/site"
)

// binary is the weir under test.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "weir-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if binary, err = site.Build(context.Background(), dir, buildFlags...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
