package simulator

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// dial sends a request on a connection of its own, which is closed at the end of
// the test.
func (b *bench) dial(t *testing.T, path, body string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// raw returns all bytes that a client gets, and how they end: nil is a FIN.
func (b *bench) raw(t *testing.T, path, body string) (string, error) {
	t.Helper()
	got, err := io.ReadAll(b.dial(t, path, body))
	return string(got), err
}

// httpChunks splits a chunked body, and reports whether the last chunk, of
// length 0, was there.
func httpChunks(t *testing.T, body string) (chunks []string, ended bool) {
	t.Helper()
	for body != "" {
		size, rest, _ := strings.Cut(body, "\r\n")
		n, err := strconv.ParseInt(size, 16, 64)
		if err != nil || int64(len(rest)) < n+2 {
			t.Fatalf("no chunk: %.60q", body)
		}
		if n == 0 {
			return chunks, true
		}
		chunks = append(chunks, rest[:n])
		body = rest[n+2:]
	}
	return chunks, false
}

// A stream of 4 tokens fails in each way, seen on the wire.
func TestStreamFailures(t *testing.T) {
	abc := []string{"lorem", " ipsum", " dolor", " sit"}
	stop := []string{"stop"}
	tests := map[string]struct {
		script  string
		reset   bool // else FIN
		headers bool
		ended   bool // by the last HTTP chunk
		want    stream
		tokens  int64
		outcome Outcome
	}{
		"reset:0":     {"fail=reset", true, false, false, stream{}, 0, OutcomeFailed},
		"reset:2":     {"fail=reset:2,pace=5ms", true, true, false, stream{Chunks: abc[:2]}, 2, OutcomeFailed},
		"drop":        {"fail=drop", false, false, false, stream{}, 0, OutcomeFailed},
		"close:0":     {"fail=close:0", false, true, false, stream{}, 0, OutcomeFailed},
		"close:3":     {"fail=close:3", false, true, false, stream{Chunks: abc[:3]}, 3, OutcomeFailed},
		"close late":  {"fail=close:99,usage=finish", false, true, false, stream{Chunks: abc, Finish: stop, Riding: []usage{{9, 13, 4}}}, 4, OutcomeFailed},
		"end:2":       {"fail=end:2", false, true, true, stream{Chunks: abc[:2]}, 2, OutcomeFailed},
		"end:4":       {"fail=end:4", false, true, true, stream{Chunks: abc, Finish: stop}, 4, OutcomeFailed},
		"garbage:1":   {"fail=garbage:1", false, true, true, stream{Chunks: abc, Finish: stop, Final: []usage{{9, 13, 4}}, Bad: 1, Done: true}, 4, OutcomeComplete},
		"garbage:4":   {"fail=garbage:4", false, true, true, stream{Chunks: abc, Finish: stop, Final: []usage{{9, 13, 4}}, Bad: 1, Done: true}, 4, OutcomeComplete},
		"error:0":     {"fail=error:0", false, true, true, stream{Errors: 1, Done: true}, 0, OutcomeFailed},
		"error:2":     {"fail=error:2", false, true, true, stream{Chunks: abc[:2], Errors: 1, Done: true}, 2, OutcomeFailed},
		"error, bare": {"fail=error:2,done=no", false, true, true, stream{Chunks: abc[:2], Errors: 1}, 2, OutcomeFailed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := start(t, "tokens=4,"+test.script)
			raw, err := b.raw(t, chatPath, `{"stream":true,"stream_options":{"include_usage":true},`+hello+`}`)
			if errors.Is(err, syscall.ECONNRESET) != test.reset || (err != nil) != test.reset {
				t.Errorf("ends with error %v, want a reset: %v", err, test.reset)
			}
			head, body, headers := strings.Cut(raw, "\r\n\r\n")
			if headers != test.headers || headers && !strings.HasPrefix(head, "HTTP/1.1 200 OK") {
				t.Errorf("headers %q, want some: %v", head, test.headers)
			}
			chunks, ended := httpChunks(t, body)
			if ended != test.ended {
				t.Errorf("ended by the last chunk: %v, want %v", ended, test.ended)
			}
			if diff := cmp.Diff(test.want, read(t, strings.Join(chunks, ""))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			e := b.only(t)
			usage := len(test.want.Final)+len(test.want.Riding) > 0
			if e.Completion != test.tokens || e.Outcome != test.outcome || e.UsageSent != usage || (e.Status == 200) != headers {
				t.Errorf("ledger has %+v", e)
			}
		})
	}
}

// The error in a stream is what vLLM sent, to the byte.
func TestStreamErrorBytes(t *testing.T) {
	b := start(t, "fail=error:1")
	got := b.post(t, chatPath, `{"stream":true,`+hello+`}`)
	want := `data: {"error": {"message": "EngineCore encountered an issue. See stack trace (above) for the root cause.", "type": "InternalServerError", "param": null, "code": 500}}` +
		"\n\ndata: [DONE]\n\n"
	if !strings.HasSuffix(got.body, "\n\n"+want) {
		t.Errorf("got %s", got.body)
	}
}

// Plain answers fail amid the body, or before it.
func TestPlainFailures(t *testing.T) {
	tests := map[string]struct {
		script string
		reset  bool
		status string // of the answer, or none
		media  string
		half   bool // half of the body came
	}{
		"reset:0": {"fail=reset", true, "", "", false},
		"reset:3": {"fail=reset:3", true, "200 OK", "application/json", true},
		"drop":    {"fail=drop", false, "", "", false},
		"close:3": {"fail=close:3", false, "200 OK", "application/json", true},
		"end:3":   {"fail=end:3", false, "200 OK", "application/json", true},
		"garbage": {"fail=garbage", false, "200 OK", "application/json", false},
		"error:2": {"fail=error:2", false, "500 Internal Server Error", "application/json", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := start(t, "tokens=4,"+test.script)
			raw, err := b.raw(t, chatPath, `{`+hello+`}`)
			if errors.Is(err, syscall.ECONNRESET) != test.reset || (err != nil) != test.reset {
				t.Errorf("ends with error %v, want a reset: %v", err, test.reset)
			}
			head, body, _ := strings.Cut(raw, "\r\n\r\n")
			if want := "HTTP/1.1 " + test.status; test.status == "" && raw != "" || test.status != "" && !strings.HasPrefix(head, want) {
				t.Errorf("got %q, want %q", raw, want)
			}
			if test.media != "" && !strings.Contains(head, "Content-Type: "+test.media) {
				t.Errorf("headers %q, want %s", head, test.media)
			}
			if half := strings.Contains(body, `"chat.completion"`) && !strings.Contains(body, "usage"); half != test.half {
				t.Errorf("body %q, want half of it: %v", body, test.half)
			}
			if e := b.only(t); e.Outcome != OutcomeFailed || e.UsageSent {
				t.Errorf("ledger has %+v", e)
			}
		})
	}
}

func TestPlainErrorIsVLLMs(t *testing.T) {
	got := start(t, "fail=error").post(t, chatPath, `{`+hello+`}`)
	want := `{"error":{"message":"EngineCore encountered an issue. See stack trace (above) for the root cause.","type":"InternalServerError","param":null,"code":500}}`
	if got.status != 500 || got.body != want {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

func TestStatusFailures(t *testing.T) {
	tests := map[string]struct {
		script     string
		status     int
		body       string
		retryAfter string
	}{
		"busy":           {"fail=status:503", 503, `{"error":{"message":"The engine is currently busy and cannot accept new requests. Please try again later or on a different instance.","type":"Service Unavailable","param":null,"code":503}}`, ""},
		"busy, later":    {"fail=status:503,retry_after=7", 503, "currently busy", "7"},
		"too many":       {"fail=status:429,retry_after=90", 429, `"type":"Too Many Requests","param":null,"code":429}}`, "90"},
		"bad request":    {"fail=status:400,retry_after=7", 400, `"type":"BadRequestError"`, ""},
		"unauthorized":   {"fail=status:401", 401, `{"error":"Unauthorized"}`, ""},
		"not found":      {"fail=status:404", 404, `"type":"NotFoundError"`, ""},
		"dead":           {"fail=status:500", 500, `"type":"InternalServerError"`, ""},
		"unknown status": {"fail=status:599", 599, `"code":599`, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := start(t, test.script)
			got := b.post(t, chatPath, `{"stream":true,`+hello+`}`)
			if got.status != test.status || !strings.Contains(got.body, test.body) {
				t.Errorf("got %d %s, want %d %s", got.status, got.body, test.status, test.body)
			}
			if after := got.header.Get("Retry-After"); after != test.retryAfter {
				t.Errorf("retry-after %q, want %q", after, test.retryAfter)
			}
			if e := b.only(t); e.Outcome != OutcomeFailed || e.Status != test.status || e.Completion != 0 || e.Prompt != 9 {
				t.Errorf("ledger has %+v", e)
			}
		})
	}
}

func TestJSONForAStream(t *testing.T) {
	b := start(t, "tokens=4,fail=type")
	got := b.post(t, chatPath, `{"stream":true,`+hello+`}`)
	if media := got.header.Get("Content-Type"); media != "application/json" {
		t.Errorf("content-type %q", media)
	}
	if o := decode(t, got.body); o.Object != "chat.completion" || o.Usage == nil || o.Usage.Completion != 4 {
		t.Errorf("got %s", got.body)
	}
	if e := b.only(t); e.Outcome != OutcomeComplete || !e.Stream || !e.UsageSent {
		t.Errorf("ledger has %+v", e)
	}
}

// readUntil reads until want was read.
func readUntil(t *testing.T, conn net.Conn, want string) (got string) {
	t.Helper()
	b := make([]byte, 4096)
	for !strings.Contains(got, want) {
		n, err := conn.Read(b)
		got += string(b[:n])
		if err != nil {
			t.Fatalf("got %q and %v, want %q", got, err, want)
		}
	}
	return got
}

// A hanging exchange sends what it must and then nothing, until the client goes.
func TestHangs(t *testing.T) {
	tests := map[string]struct {
		script, members string
		want            string // in what comes
		tokens          int64
	}{
		"before headers": {"fail=hang:0", `"stream":true,`, "", 0},
		"in a stream":    {"tokens=4,fail=hang:2", `"stream":true,`, `{"content":" ipsum"}`, 2},
		"at its end":     {"tokens=4,fail=hang:9", `"stream":true,`, `"finish_reason":"stop"`, 4},
		"plain, before":  {"fail=hang", "", "", 0},
		"plain, amid":    {"tokens=4,fail=hang:1", "", `"chat.completion"`, 4},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := start(t, test.script)
			conn := b.dial(t, chatPath, `{`+test.members+hello+`}`)
			got := readUntil(t, conn, test.want)
			if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			more, err := io.ReadAll(conn)
			if netErr, ok := errors.AsType[net.Error](err); !ok || !netErr.Timeout() {
				t.Fatalf("ends with %v, want silence", err)
			}
			if got += string(more); strings.Contains(got, "[DONE]") || test.want == "" && got != "" {
				t.Errorf("got %q", got)
			}
			if n := b.Ledger().InFlight(); n != 1 {
				t.Errorf("%d exchanges in flight, want 1", n)
			}
			conn.Close()
			if e := b.only(t); e.Outcome != OutcomeClientGone || e.Completion != test.tokens {
				t.Errorf("ledger has %+v", e)
			}
		})
	}
}
