package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// memory is what a process holds, in bytes.
func memory(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kib, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, err := strconv.ParseInt(kib, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

// crowd is clients that mean no good, until their context ends.
type crowd struct {
	t    *testing.T
	addr string
	wg   sync.WaitGroup
}

// join runs f on connections of its own, n at a time, again when one has ended.
func (c *crowd) join(ctx context.Context, n int, f func(ctx context.Context, conn net.Conn)) {
	for range n {
		c.wg.Go(func() {
			for ctx.Err() == nil {
				conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.addr)
				if err != nil {
					if ctx.Err() == nil {
						c.t.Errorf("a connection was not taken: %v", err)
					}
					return
				}
				stop := context.AfterFunc(ctx, func() { conn.Close() })
				f(ctx, conn)
				stop()
				conn.Close()
			}
		})
	}
}

// trickle sends a byte of an endless request at a time.
func trickle(ctx context.Context, conn net.Conn, text string) error {
	for i := 0; ctx.Err() == nil; i++ {
		if _, err := conn.Write([]byte{text[i%len(text)]}); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
	return nil
}

// mostFrames are sent in a flood, if nobody ends it.
const mostFrames = 100_000

// frames speaks HTTP/2 and sends what next writes until the server has enough; it tells
// how many it took.
func frames(conn net.Conn, next func(f *http2.Framer, i int) error) int {
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return 0
	}
	f := http2.NewFramer(conn, conn)
	f.AllowIllegalWrites = true
	if err := f.WriteSettings(); err != nil {
		return 0
	}
	for i := range mostFrames {
		if err := next(f, i); err != nil {
			return i
		}
	}
	return mostFrames
}

// TestGoodClientsBesideBadOnes has good clients answered, all, while others hold idle
// connections, send their requests byte by byte, and flood with headers and frames.
//
//nolint:paralleltest // it takes all of the machine, and is to have it
func TestGoodClientsBesideBadOnes(t *testing.T) {
	r := start(t, fixture{
		model:  "tokens=5",
		limits: "  - {name: slots, per: [key], concurrency: 1000}\n",
	})
	if got := r.post(chat()); got.status != http.StatusOK {
		t.Fatalf("status %d", got.status)
	}
	envoy, err := r.EnvoyPID()
	if err != nil {
		t.Fatal(err)
	}
	before := memory(t, envoy)
	ctx, done := context.WithCancel(t.Context())
	defer done()
	c := &crowd{t: t, addr: strings.TrimPrefix(r.URL, "http://")}
	head := "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer " + otherKey + "\r\n"

	c.join(ctx, idleConnections, func(ctx context.Context, _ net.Conn) { <-ctx.Done() })
	var cut atomic.Int64
	c.join(ctx, 150, func(ctx context.Context, conn net.Conn) {
		if err := trickle(ctx, conn, head+strings.Repeat("X-A: b\r\n", 1000)); err != nil && ctx.Err() == nil {
			cut.Add(1)
		}
	})
	c.join(ctx, 150, func(ctx context.Context, conn net.Conn) {
		if _, err := io.WriteString(conn, head+"Content-Length: 1000000\r\n\r\n"); err == nil {
			_ = trickle(ctx, conn, "{")
		}
	})
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range []hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "http"},
		{Name: ":path", Value: "/v1/chat/completions"},
		{Name: ":authority", Value: "x"},
		{Name: "content-type", Value: "application/json"},
		{Name: "authorization", Value: "Bearer " + otherKey},
	} {
		if err := enc.WriteField(f); err != nil {
			t.Fatal(err)
		}
	}
	headers := func(f *http2.Framer, i int, end bool) error {
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: block.Bytes(), EndHeaders: end})
	}
	floods := map[string]func(conn net.Conn) int{
		"headers": func(conn net.Conn) int {
			if _, err := io.WriteString(conn, head); err != nil {
				return 0
			}
			for i := range mostFrames {
				if _, err := fmt.Fprintf(conn, "X-%d: a\r\n", i); err != nil {
					return i
				}
			}
			return mostFrames
		},
		"resets": func(conn net.Conn) int {
			return frames(conn, func(f *http2.Framer, i int) error {
				if err := headers(f, i, true); err != nil {
					return err
				}
				return f.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel)
			})
		},
		"continuations": func(conn net.Conn) int {
			return frames(conn, func(f *http2.Framer, i int) error {
				if i == 0 {
					return headers(f, 0, false)
				}
				var more bytes.Buffer
				if err := hpack.NewEncoder(&more).WriteField(hpack.HeaderField{Name: "x-a", Value: strings.Repeat("b", 1000)}); err != nil {
					return err
				}
				return f.WriteContinuation(1, false, more.Bytes())
			})
		},
		"empty continuations": func(conn net.Conn) int {
			return frames(conn, func(f *http2.Framer, i int) error {
				if i == 0 {
					return headers(f, 0, false)
				}
				return f.WriteContinuation(1, false, nil)
			})
		},
		"pings that nobody reads": func(conn net.Conn) int {
			return frames(conn, func(f *http2.Framer, _ int) error { return f.WritePing(false, [8]byte{}) })
		},
		"settings that nobody reads": func(conn net.Conn) int {
			return frames(conn, func(f *http2.Framer, _ int) error { return f.WriteSettings() })
		},
		"priorities": func(conn net.Conn) int {
			return frames(conn, func(f *http2.Framer, i int) error {
				return f.WritePriority(uint32(2*i+1), http2.PriorityParam{Weight: uint8(i)})
			})
		},
	}
	ended := map[string]*atomic.Int64{}
	for name, flood := range floods {
		n := &atomic.Int64{}
		ended[name] = n
		c.join(ctx, 3, func(ctx context.Context, conn net.Conn) {
			if flood(conn) < mostFrames && ctx.Err() == nil {
				n.Add(1)
			}
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond): // two cores are shared with the good
			}
		})
	}

	const good = 600
	answers := r.parallel(good, func(i int) (reply, error) {
		time.Sleep(time.Duration(i) * 25 * time.Millisecond)
		if i%2 == 0 {
			return r.try(t.Context(), http.MethodPost, "/v1/chat/completions", chat())
		}
		return r.try(t.Context(), http.MethodPost, "/v1/chat/completions", chat(`"stream":true`))
	})
	for i, a := range answers {
		if a.status != http.StatusOK || i%2 == 1 && !strings.HasSuffix(a.body, "data: [DONE]\n\n") {
			t.Errorf("answer %d: status %d, %.200q", i, a.status, a.body)
		}
	}
	grown := memory(t, envoy) - before
	t.Logf("Envoy has grown by %d MiB; %d slow requests were cut", grown>>20, cut.Load())
	if grown > 200<<20 {
		t.Errorf("Envoy has grown by %d MiB", grown>>20)
	}
	if cut.Load() == 0 {
		t.Error("headers that come byte by byte are waited for without end")
	}
	for name, n := range ended {
		t.Logf("%s: ended %d times", name, n.Load())
		if n.Load() == 0 {
			t.Errorf("a flood of %s is not ended", name)
		}
	}
	done()
	c.wg.Wait()
	r.eventually("all slots are free", func() bool { return r.usedBy("other", "slots") == 0 })
	if n := r.sim.Ledger().Len(); n != good+1 {
		t.Errorf("%d requests reached the upstream, %d were good", n, good+1)
	}
}

// TestUnknownKeys has a guesser learn nothing and cost nothing that stays.
//
//nolint:paralleltest // it takes all of the machine
func TestUnknownKeys(t *testing.T) {
	r := start(t, fixture{})
	guess := func(n int) {
		const clients = 50
		r.parallel(clients, func(client int) (reply, error) {
			for i := client; i < n; i += clients {
				a, err := r.try(t.Context(), http.MethodPost, "/v1/chat/completions", chat(), "Authorization", fmt.Sprintf("Bearer sk-%048x", i))
				if err != nil {
					return a, err
				}
				if a.status != http.StatusUnauthorized {
					return a, fmt.Errorf("guess %d: status %d", i, a.status)
				}
			}
			return reply{}, nil
		})
	}
	// The garbage collector finds its pace: between two of its turns there is as much garbage as
	// it ever lets come together.
	collections := func() int {
		n, err := strconv.Atoi(r.metric("go_gc_duration_seconds_count"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const step, most = 10_000, 300_000
	for n, begun := 0, collections(); collections() < begun+2; n += step {
		if n == most {
			t.Fatalf("%d guesses, and hardly anything was collected", n)
		}
		guess(step)
	}
	before := memory(t, r.PID())
	series := strings.Count(r.scrape(), "\n")
	guess(guesses)
	grown := memory(t, r.PID()) - before
	t.Logf("weir has grown by %d MiB", grown>>20)
	if grown > mostGrown {
		t.Errorf("weir has grown by %d MiB", grown>>20)
	}
	if now := strings.Count(r.scrape(), "\n"); now > series+20 {
		t.Errorf("%d lines of metrics have become %d", series, now)
	}
	if n := r.sim.Ledger().Len(); n != 0 {
		t.Errorf("%d requests reached the upstream", n)
	}
}
