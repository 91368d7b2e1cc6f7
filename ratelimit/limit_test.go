package ratelimit_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-gateway/weir/ratelimit"
)

func TestNewLimitCutsWindows(t *testing.T) {
	cases := []struct {
		window, step time.Duration
		buckets      int
	}{
		{time.Second, 100 * time.Millisecond, 10},
		{2 * time.Second, 200 * time.Millisecond, 10},
		{time.Minute, 5 * time.Second, 12},
		{time.Hour, 5 * time.Minute, 12},
		{24 * time.Hour, 2 * time.Hour, 12},
		{time.Millisecond, time.Millisecond, 1},
		{15 * time.Millisecond, 2 * time.Millisecond, 8},
		{1001 * time.Millisecond, 101 * time.Millisecond, 10},
	}
	for _, tc := range cases {
		l, err := ratelimit.NewLimit("l", ratelimit.Tokens, 1, tc.window)
		if err != nil {
			t.Errorf("NewLimit over %s = error %v", tc.window, err)
			continue
		}
		if l.Step() != tc.step || l.Buckets() != tc.buckets {
			t.Errorf("NewLimit over %s has %d buckets of %s, want %d of %s",
				tc.window, l.Buckets(), l.Step(), tc.buckets, tc.step)
		}
	}
}

func TestBucketsCoverTheWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		window := time.Duration(rapid.Int64Range(1, int64(ratelimit.MaxWindow/time.Millisecond)).Draw(t, "ms")) * time.Millisecond
		l, err := ratelimit.NewLimit("l", ratelimit.Tokens, 1, window)
		if err != nil {
			t.Fatal(err)
		}
		covered := time.Duration(l.Buckets()) * l.Step()
		if covered < window || covered-window >= l.Step() {
			t.Errorf("window of %s: %d buckets of %s", window, l.Buckets(), l.Step())
		}
	})
}

func TestNewLimitErrors(t *testing.T) {
	cases := []struct {
		name   string
		unit   ratelimit.Unit
		limit  int64
		window time.Duration
		want   string
	}{
		{"", ratelimit.Tokens, 5, time.Second, "want a name"},
		{"l", ratelimit.Unit(9), 5, time.Second, "unknown unit(9)"},
		{"l", ratelimit.Tokens, 0, time.Second, `limit "l": 0 tokens: want 1 to`},
		{"l", ratelimit.Tokens, ratelimit.MaxAmount + 1, time.Second, "want 1 to"},
		{"l", ratelimit.Concurrency, 5, time.Second, "concurrency over a window of 1s"},
		{"l", ratelimit.Tokens, 5, 0, "window of 0s"},
		{"l", ratelimit.Tokens, 5, -time.Second, "window of -1s"},
		{"l", ratelimit.Tokens, 5, 1500 * time.Microsecond, "whole milliseconds"},
		{"l", ratelimit.Tokens, 5, ratelimit.MaxWindow + time.Second, "at most"},
	}
	for _, tc := range cases {
		_, err := ratelimit.NewLimit(tc.name, tc.unit, tc.limit, tc.window)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("NewLimit(%q, %v, %d, %s) = error %v, want one with %q",
				tc.name, tc.unit, tc.limit, tc.window, err, tc.want)
		}
	}
}

func TestNewBurstLimit(t *testing.T) {
	cases := []struct {
		limit, burst int64
		window       time.Duration
		want         time.Duration // 0 for an error
	}{
		{20, 40, time.Second, 2 * time.Second},
		{20, 20, time.Second, time.Second},
		{3, 10, time.Second, 3334 * time.Millisecond},
		{1000, ratelimit.MaxAmount, time.Hour, 0},
		{1, math.MaxInt64, ratelimit.MaxWindow, 0},
		{20, 19, time.Second, 0},
		{0, 19, time.Second, 0},
	}
	for _, tc := range cases {
		l, err := ratelimit.NewBurstLimit("l", ratelimit.Requests, tc.limit, tc.window, tc.burst)
		switch {
		case tc.want == 0:
			if err == nil {
				t.Errorf("NewBurstLimit of %d at %d per %s = %v, want an error", tc.burst, tc.limit, tc.window, l)
			}
		case err != nil || l.Window != tc.want || l.Max != tc.burst:
			t.Errorf("NewBurstLimit of %d at %d per %s = %v, error %v, want %s", tc.burst, tc.limit, tc.window, l, err, tc.want)
		}
	}
	if l, err := ratelimit.NewBurstLimit("l", ratelimit.Concurrency, 2, 0, 4); err == nil {
		t.Errorf("NewBurstLimit of concurrency = %v, want an error", l)
	}
}

func TestLimitID(t *testing.T) {
	of := func(name string, unit ratelimit.Unit, limit int64, window time.Duration) ratelimit.LimitID {
		l, err := ratelimit.NewLimit(name, unit, limit, window)
		if err != nil {
			t.Fatal(err)
		}
		return l.ID()
	}
	id := of("key", ratelimit.Tokens, 10, time.Minute)
	if got, want := id.String(), "key/tokens/1m0s/5s"; got != want {
		t.Errorf("ID = %q, want %q", got, want)
	}
	if id != of("key", ratelimit.Tokens, 20, time.Minute) {
		t.Error("the ID depends on the number")
	}
	for _, other := range []ratelimit.LimitID{
		{},
		of("key2", ratelimit.Tokens, 10, time.Minute),
		of("key", ratelimit.InputTokens, 10, time.Minute),
		of("key", ratelimit.Tokens, 10, time.Hour),
	} {
		if other == id {
			t.Errorf("another limit has the ID %q too", id)
		}
	}
}

func TestUnitString(t *testing.T) {
	for unit, want := range map[ratelimit.Unit]string{
		ratelimit.Requests: "requests", ratelimit.Tokens: "tokens", ratelimit.InputTokens: "input_tokens",
		ratelimit.OutputTokens: "output_tokens", ratelimit.Concurrency: "concurrency", 9: "unit(9)",
	} {
		if got := unit.String(); got != want {
			t.Errorf("Unit(%d) = %q, want %q", unit, got, want)
		}
	}
}

func TestIDString(t *testing.T) {
	for id, want := range map[ratelimit.ID]string{
		{}:                          "0-0",
		{Instance: 35, Seq: 36}:     "z-10",
		{math.MaxUint64, 1<<64 - 1}: "3w5e11264sgsf-3w5e11264sgsf",
	} {
		if got := id.String(); got != want {
			t.Errorf("ID = %q, want %q", got, want)
		}
	}
}
