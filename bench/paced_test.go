package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// answering is a server whose answers are right and take as long as pause says, by
// their number.
func answering(t *testing.T, pause func(n int64) time.Duration) (addr string) {
	t.Helper()
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(pause(requests.Add(1)))
		fmt.Fprintf(w, `{"usage":{"completion_tokens":%d,"x":1}}`, plainTokens)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func TestRate(t *testing.T) {
	addr := answering(t, func(int64) time.Duration { return 0 })
	w := atRate(500, 0, 100)
	got, err := drive(t.Context(), addr, &w, w.count)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.total) != w.count || len(got.late) != w.count || got.alone != 0 {
		t.Errorf("%d answers, %d sent, %d decided alone; want 100, 100, 0", len(got.total), len(got.late), got.alone)
	}
	// The last is due after 198 ms, however fast the others are answered.
	if got.wall < 198*time.Millisecond {
		t.Errorf("100 requests at 500 a second took %v", got.wall)
	}
}

// TestAStallCountsForAllThatWereDue lets the first of two connections' answers stall:
// what was due meanwhile waited too, and says so.
func TestAStallCountsForAllThatWereDue(t *testing.T) {
	const stall = 300 * time.Millisecond
	addr := answering(t, func(n int64) time.Duration {
		if n <= 2 {
			return stall
		}
		return 0
	})
	w := atRate(100, 0, 20)
	w.conns = 2
	got, err := drive(t.Context(), addr, &w, w.count)
	if err != nil {
		t.Fatal(err)
	}
	// Half of the 20 were due in the first 100 ms, and none was answered then.
	if p50 := percentile(got.total, 0.5); p50 < stall-100*time.Millisecond {
		t.Errorf("half of the requests took no more than %v: those that were not sent in time are left out", p50)
	}
}

func TestRateEndsWithAWrongAnswer(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	w := atRate(100, 0, 1_000_000)
	if _, err := drive(t.Context(), strings.TrimPrefix(server.URL, "http://"), &w, w.count); err == nil || !strings.Contains(err.Error(), "status 404") {
		t.Errorf("error %v", err)
	}
	if _, err := drive(t.Context(), "127.0.0.1:1", &w, w.count); err == nil || !strings.Contains(err.Error(), "connect") {
		t.Errorf("error %v", err)
	}
}

func TestRateIsStopped(t *testing.T) {
	addr := answering(t, func(int64) time.Duration { return 0 })
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	w := atRate(100, 0, 1_000_000)
	if _, err := drive(ctx, addr, &w, w.count); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
