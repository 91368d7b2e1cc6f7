package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Master is the name under which Sentinels know the master.
const Master = "weir"

// Watched is a master with a replica, and three Sentinels that watch them.
type Watched struct {
	Servers   [2]*Server // the first is the master at the beginning
	Sentinels [3]*Server
}

// StartWatched starts them all, and waits until they know each other. A master
// that is killed is replaced in two or three seconds.
func StartWatched(tb testing.TB) *Watched {
	tb.Helper()
	w := &Watched{}
	w.Servers[0] = Start(tb)
	host, port, _ := net.SplitHostPort(w.Servers[0].Addr)
	w.Servers[1] = Start(tb, "--replicaof", host+" "+port, "--repl-diskless-sync-delay", "0")
	for i := range w.Sentinels {
		w.Sentinels[i] = startSentinel(tb, host, port)
	}
	await(tb, "the Sentinels know all", func(ctx context.Context) bool {
		for _, s := range w.Sentinels {
			state, err := s.Client.Do(ctx, "sentinel", "master", Master).StringSlice()
			text := strings.Join(state, " ")
			if err != nil || !strings.Contains(text, "num-slaves 1") || !strings.Contains(text, "num-other-sentinels 2") {
				return false
			}
		}
		return w.Servers[1].Client.Info(ctx, "replication").Err() == nil &&
			strings.Contains(w.Servers[1].Client.Info(ctx, "replication").Val(), "master_link_status:up")
	})
	return w
}

// URL is where the Sentinels listen, as redisstore takes it.
func (w *Watched) URL() string {
	var addrs []string
	for _, s := range w.Sentinels {
		addrs = append(addrs, s.Addr)
	}
	return "sentinel://" + strings.Join(addrs, ",") + "/" + Master
}

// startSentinel starts one, which keeps its configuration in a file.
func startSentinel(tb testing.TB, host, port string) *Server {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "sentinel.conf")
	text := fmt.Sprintf(`sentinel monitor %[1]s %[2]s %[3]s 2
sentinel down-after-milliseconds %[1]s 400
sentinel failover-timeout %[1]s 2000
`, Master, host, port)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	s, err := launch([]string{file, "--sentinel"}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

// await waits until something is so.
func await(tb testing.TB, what string, so func(ctx context.Context) bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	for !so(ctx) {
		if ctx.Err() != nil {
			tb.Fatalf("waited %s until %s", patience, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Replica tells whether a server is one now.
func Replica(ctx context.Context, client *redis.Client) bool {
	return strings.Contains(client.Info(ctx, "replication").Val(), "role:slave")
}
