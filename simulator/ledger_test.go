package simulator

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func contextWithTimeout(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), d)
}

// An entry tells all about its request.
func TestEntry(t *testing.T) {
	b := startWith(t, Options{KeepBodies: true, Models: []Model{{Name: "m", Script: Script{Tokens: 3}}}})
	body := `{"model":"m","stream":true,"max_completion_tokens":5,"stream_options":{"include_usage":true},` + hello + `}`
	b.post(t, chatPath, body, "X-Request-Id", "r-1", "Authorization", "Bearer sk-secret-1234", "X-Custom", "kept")
	got := b.only(t)
	want := Entry{
		RequestID: "r-1", Method: "POST", Path: chatPath, Model: "m", Auth: "1234",
		Stream: true, MaxTokens: 5, IncludeUsage: true,
		Prompt: 9, Completion: 3, UsageSent: true, Status: 200, Outcome: OutcomeComplete,
		BodyBytes: int64(len(body)), Body: []byte(body),
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreTypes(time.Time{}, http.Header{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Header.Get("X-Custom") != "kept" || got.Header.Get("Authorization") != "1234" {
		t.Errorf("header %v", got.Header)
	}
	if got.FirstToken.Before(got.Start) || got.End.Before(got.FirstToken) {
		t.Errorf("start %s, first token %s, end %s", got.Start, got.FirstToken, got.End)
	}
	if found := b.Ledger().Find("r-1"); len(found) != 1 || len(b.Ledger().Find("r-2")) != 0 {
		t.Errorf("found %+v", found)
	}
}

// A client that leaves in the middle of a stream is noticed at once, and what
// was generated until then is counted.
func TestClientLeavesStream(t *testing.T) {
	b := start(t, "tokens=1000,pace=5ms")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+chatPath, strings.NewReader(`{"stream":true,`+hello+`}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := b.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	seen := int64(0)
	for lines := bufio.NewScanner(resp.Body); seen < 10 && lines.Scan(); {
		if strings.Contains(lines.Text(), `"delta":{"content"`) {
			seen++
		}
	}
	left := time.Now()
	cancel()
	e := b.only(t)
	if e.Outcome != OutcomeClientGone || e.UsageSent || e.Status != 200 {
		t.Errorf("ledger has %+v", e)
	}
	if late := e.End.Sub(left); late > time.Second {
		t.Errorf("noticed after %s", late)
	}
	if most := int64(e.End.Sub(e.Start)/(5*time.Millisecond)) + 1; e.Completion < seen || e.Completion > most {
		t.Errorf("%d tokens counted, %d seen, at most %d generated", e.Completion, seen, most)
	}
}

// A client that leaves without reading stops a stream that has no pace.
func TestClientLeavesFastStream(t *testing.T) {
	b := start(t, "tokens=10000000,pad=1000")
	conn := b.dial(t, chatPath, `{"stream":true,`+hello+`}`)
	if _, err := io.ReadFull(conn, make([]byte, 10_000)); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if e := b.only(t); e.Outcome != OutcomeClientGone || e.Completion < 5 {
		t.Errorf("ledger has %+v", e)
	}
}

// Many streams at once are all counted, and seen at once.
func TestManyStreams(t *testing.T) {
	const streams = 200
	b := start(t, "tokens=10,pace=20ms,ttft=700ms")
	var wg sync.WaitGroup
	for i := range streams {
		wg.Go(func() {
			body := fmt.Sprintf(`{"stream":true,"max_tokens":%d,%s}`, 1+i%10, hello)
			resp, err := b.send(t, chatPath, body, "X-Request-Id", fmt.Sprint(i))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if n := strings.Count(string(got), `"delta":{"content"`); err != nil || n != 1+i%10 {
				t.Errorf("stream %d has %d tokens, error %v", i, n, err)
			}
		})
	}
	wg.Wait()
	b.settle(t)
	want := Totals{Requests: streams, Complete: streams, Prompt: 9 * streams, Completion: 1100}
	if diff := cmp.Diff(want, b.Ledger().Totals()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if peak := b.Ledger().MaxInFlight(); peak < streams/2 || peak > streams {
		t.Errorf("at most %d in flight, want about %d", peak, streams)
	}
}

// After a reset, exchanges from before are no longer counted, only in flight.
func TestResetAmidExchange(t *testing.T) {
	b := start(t, "")
	b.post(t, chatPath, `{`+hello+`}`)
	b.settle(t)
	resp, err := b.send(t, chatPath, `{"stream":true,`+hello+`}`, "X-Simulate", "fail=hang:1")
	if err != nil {
		t.Fatal(err)
	}
	l := b.Ledger()
	l.Reset()
	if l.Len() != 0 || l.Totals() != (Totals{}) || l.InFlight() != 1 || l.MaxInFlight() != 1 {
		t.Errorf("after the reset: %+v", l.Snapshot())
	}
	resp.Body.Close()
	b.settle(t)
	if l.Len() != 0 || l.Totals() != (Totals{}) || l.InFlight() != 0 {
		t.Errorf("at the end: %+v", l.Snapshot())
	}
}

func TestLedgerForgetsOldest(t *testing.T) {
	b := startWith(t, Options{KeepEntries: 2, Models: []Model{{Name: "m", Script: Script{Tokens: 1}}}})
	for i := range 5 {
		b.post(t, chatPath, `{`+hello+`}`, "X-Request-Id", fmt.Sprint(i))
	}
	b.settle(t)
	var ids []string
	for _, e := range b.Ledger().Entries() {
		ids = append(ids, e.RequestID)
	}
	if diff := cmp.Diff([]string{"3", "4"}, ids); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := b.Ledger().Totals(); got.Requests != 5 || got.Completion != 5 {
		t.Errorf("totals %+v", got)
	}
}

// Other processes read the same ledger.
func TestLedgerOverHTTP(t *testing.T) {
	b := start(t, "tokens=3")
	b.post(t, chatPath, `{`+hello+`}`)
	slow, err := b.send(t, chatPath, `{"stream":true,`+hello+`}`, "X-Simulate", "ttft=50ms")
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Body.Close()
	resp, err := b.client.Get(b.url + "/_ledger?settle=5s")
	if err != nil {
		t.Fatal(err)
	}
	var got Snapshot
	if err := json.Unmarshal([]byte(readAll(t, resp)), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b.Ledger().Snapshot(), got, cmpopts.EquateApproxTime(0)); diff != "" {
		t.Errorf("(-in process +over HTTP):\n%s", diff)
	}
	if got.InFlight != 0 || got.Totals.Complete != 2 || got.Totals.Completion != 6 {
		t.Errorf("not settled: %+v", got.Totals)
	}
	if reset := b.post(t, "/_ledger/reset", ""); reset.status != http.StatusNoContent || b.Ledger().Len() != 0 {
		t.Errorf("reset answers %d, %d entries left", reset.status, b.Ledger().Len())
	}
	if unknown := b.post(t, "/_ledger", ""); unknown.status != http.StatusNotFound {
		t.Errorf("POST /_ledger answers %d", unknown.status)
	}
}

func TestWaitEndsWithContext(t *testing.T) {
	b := start(t, "fail=hang:1")
	resp, err := b.send(t, chatPath, `{"stream":true,`+hello+`}`)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	ctx, cancel := contextWithTimeout(t, 10*time.Millisecond)
	defer cancel()
	err = b.Ledger().Wait(ctx)
	if err == nil || err.Error() != "simulator: 1 exchanges still in flight: context deadline exceeded" {
		t.Errorf("error %v", err)
	}
}

// The log has a line for each exchange, without bodies, prompts or keys.
func TestLog(t *testing.T) {
	var log bytes.Buffer
	b := startWith(t, Options{Log: &log, KeepBodies: true, Models: []Model{{Name: "m"}}})
	b.post(t, chatPath, `{`+hello+`}`, "Authorization", "Bearer sk-secret-1234", "X-Request-Id", "r-1")
	b.post(t, chatPath, `{`)
	b.settle(t)
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines: %s", len(lines), log.String())
	}
	var e Entry
	if err := json.Unmarshal([]byte(lines[0]), &e); err != nil {
		t.Fatal(err)
	}
	if e.RequestID != "r-1" || e.Auth != "1234" || e.Completion != 16 || e.Outcome != OutcomeComplete {
		t.Errorf("line %s", lines[0])
	}
	for _, secret := range []string{"secret", "Hello", "header", `"body"`} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("log has %q: %s", secret, log.String())
		}
	}
}
