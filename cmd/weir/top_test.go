package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-gateway/weir/admin"
	"github.com/weir-gateway/weir/gateway"
	adminv1 "github.com/weir-gateway/weir/proto/weir/admin/v1"
	"github.com/weir-gateway/weir/upstream"
	"github.com/weir-gateway/weir/upstream/pool"
)

func topView() *view {
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	before := &sample{at: at.Add(-2 * time.Second), metrics: readMetrics(`# HELP http_requests_total Requests
http_requests_total{endpoint="chat_completions",status="200"} 100
http_requests_total{endpoint="chat_completions",status="429"} 7
token_usage_total{kind="completion",model="m"} 1000
`)}
	now := &sample{
		at: at, metrics: readMetrics(`http_requests_total{endpoint="chat_completions",status="200"} 125
http_requests_total{endpoint="chat_completions",status="429"} 10
http_requests_total_other{status="200"} 1000
token_usage_total{kind="completion",model="m"} 25000
token_usage_total{kind="prompt",model="m"} 8
weir_limit_refusals_total{limit="rpm"} 3
weir_keys_stale 1
weir_store_away 1
weir_store_owed_exchanges 4
`),
		pools: []admin.Pool{
			{Upstream: "local", Up: true, Status: upstream.StatusOK},
			{Upstream: "gone", Status: upstream.StatusDown},
			{Upstream: "hosted", Up: true, Status: upstream.StatusOK, Usable: 1, Stale: "keys.txt:3: label: want letters", Keys: []pool.KeyStatus{
				{Label: "k0", State: pool.Healthy, Requests: 32, Successes: 20, Failures: map[pool.Class]int64{pool.Connect: 5}, Aborted: 5, InFlight: 2, Tokens: 12345},
				{Label: "k1", State: pool.Cooling, Why: "rate_limited", Requests: 10, Successes: 5, Failures: map[pool.Class]int64{pool.RateLimited: 5}},
			}},
			{Upstream: "new", Up: true, Status: upstream.StatusNoKeys, Keys: []pool.KeyStatus{{Label: "k2", State: pool.Quarantined, Why: "rejected", Requests: 1, Aborted: 1}}},
		},
		limits: admin.Limits{Limits: []gateway.LimitUsage{
			{Limit: "unused", Scope: "key a", Max: 10},
			{Limit: "tpm", Scope: "key a", Unit: "tokens", Used: 5000, Max: 100000, ResetMS: 59600},
			{Limit: "slots", Scope: "key a", Unit: "concurrency", Used: 7, Max: 8, Shadow: true},
		}},
		running: []*adminv1.Exchange{
			{RequestId: "0f9c\x1b[2J", Key: "a", User: "ann", Model: "m", Upstream: "hosted", Stream: true, Phase: adminv1.ExchangePhase_EXCHANGE_PHASE_ANSWERING, Started: timestamppb.New(at.Add(-1500 * time.Millisecond)), ReservedTokens: 8192},
			{Id: "x.2", Key: "b", Model: "m", Upstream: "local", Phase: adminv1.ExchangePhase_EXCHANGE_PHASE_WAITING, Started: timestamppb.New(at.Add(-300 * time.Millisecond))},
			{Id: "x.3", Key: "b", Model: "m", Upstream: "local", Stream: true, Phase: adminv1.ExchangePhase_EXCHANGE_PHASE_ANSWERING_NATIVELY, Started: timestamppb.New(at.Add(-200 * time.Millisecond))},
			{Id: "x.4", Key: "b", Model: "m", Upstream: "local", Stream: true, Phase: adminv1.ExchangePhase_EXCHANGE_PHASE_SETTLED, Started: timestamppb.New(at.Add(-100 * time.Millisecond))},
		},
	}
	return &view{where: "/run/weir/ops.sock", before: before, now: now}
}

func TestTopFrame(t *testing.T) {
	want := `weir at /run/weir/ops.sock   12:00:00   4 in flight
requests 14/s: 12.5 good, 1.5 refused (1.5 by limits), 0 failed
tokens   4/s in, 12k/s out
KEY FILES NOT TAKEN: the last good state is in force; the log says what is wrong
KEY FILE OF hosted NOT TAKEN: keys.txt:3: label: want letters
REDIS IS AWAY: limits do what their on_store_failure says; 4 exchanges are owed to it

UPSTREAM  STATE          KEYS           IN FLIGHT  REQUESTS  GOOD  TOKENS
local     up             -                      -         -     -       -
gone      DOWN           -                      -         -     -       -
hosted    up             1 of 2 usable          2        42  71 %   12.3k
  k1      cooling        rate limited           0        10  50 %       0
new       NO USABLE KEY  0 of 1 usable          0         1     -       0
  k2      quarantined    rejected               0         1     -       0

LIMIT           COUNTED FOR  UNIT                     USED    OF  FREE IN
slots (shadow)  key a        concurrency  █████████░     7     8        -
tpm             key a        tokens       █░░░░░░░░░    5k  100k     1m0s

REQUEST   KEY  USER  MODEL  UPSTREAM  PHASE      RESERVED    FOR
0f9c?[2J  a    ann   m      hosted    streaming     8.19k   1.5s
x.2       b    -     m      local     waiting           0  300ms
x.3       b    -     m      local     streaming         0  200ms
x.4       b    -     m      local     ending            0  100ms`
	if diff := cmp.Diff(want, strings.Join(topView().lines(), "\n")); diff != "" {
		t.Errorf("frame (-want +got):\n%s", diff)
	}
}

// Frames fit into small terminals, also when nobody answers any more.
func TestTopFits(t *testing.T) {
	for _, size := range [][2]int{{80, 24}, {40, 12}, {20, 6}, {5, 3}, {1, 1}} {
		for _, gone := range []bool{false, true} {
			v := topView()
			v.width, v.height = size[0], size[1]
			if gone {
				v.before, v.now, v.trouble = v.now, nil, errors.New("connection refused")
			}
			lines := v.lines()
			if len(lines) > v.height || len(lines) == 0 {
				t.Errorf("%v: %d lines", size, len(lines))
			}
			for _, line := range lines {
				if n := len([]rune(line)); n > v.width {
					t.Errorf("%v: a line of %d characters: %q", size, n, line)
				}
			}
			if gone && v.height > 2 && v.width > 40 && !strings.Contains(strings.Join(lines, "\n"), "NO ANSWER: connection refused") {
				t.Errorf("%v: %q", size, lines)
			}
		}
	}
}

// A phase has one word, which is whole where a terminal is narrow.
func TestTopPhasesAreWhole(t *testing.T) {
	v := topView()
	v.width = 100
	for _, x := range v.now.running {
		x.RequestId, x.User = "3f0c1de2-9a4b-4c7d-8e6f-0123456789ab", "somebody@example.org"
	}
	text := strings.Join(v.running(), "\n")
	for _, word := range []string{"streaming", "waiting", "ending"} {
		if !strings.Contains(text, word) {
			t.Errorf("no %q in:\n%s", word, text)
		}
	}
}

func TestShort(t *testing.T) {
	for n, want := range map[float64]string{0: "0", 7: "7", 0.25: "0.25", 12.5: "12.5", 0.001: "0", 999: "999", 1234: "1.23k", 100000: "100k", 2.5e6: "2.5M", 3e9: "3.0G"} {
		if got := short(n); got != want {
			t.Errorf("%v: %q, want %q", n, got, want)
		}
	}
}
