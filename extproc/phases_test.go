package extproc_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/envoy"
	"github.com/weir-gateway/weir/extproc/extproctest"
	"github.com/weir-gateway/weir/ledger"
)

const (
	role   = `data: {"id":"1","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}` + "\n\n"
	word   = `data: {"id":"1","choices":[{"index":0,"delta":{"content":" word"}}]}` + "\n\n"
	finish = `data: {"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	usage  = `data: {"id":"1","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":3}}` + "\n\n"
	done   = "data: [DONE]\n\n"
	failed = `data: {"error":{"message":"engine died","code":500}}` + "\n\n"

	json200 = `{"id":"1","choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":11,"completion_tokens":3}}`
)

// TestEnds lets an exchange end in every way there is. It is settled once, with
// what is known.
func TestEnds(t *testing.T) {
	gone := func(a *extproctest.Answer) *extproctest.Answer {
		a.End = extproctest.Gone
		return a
	}
	local := func(status int) *extproctest.Answer {
		a := answer(status, "application/json", `{"error":{}}`)
		a.Headers = append(a.Headers, extproctest.Header{Name: "x-weir-error-source", Value: "gateway"})
		return a
	}
	compressed := answer(200, "application/json", strings.Repeat("x", 656))
	compressed.Headers = append(compressed.Headers, extproctest.Header{Name: "content-encoding", Value: "gzip"})
	together := func(a *extproctest.Answer) *extproctest.Answer {
		a.End = extproctest.Together
		return a
	}
	bodiless := answer(503, "application/json")
	bodiless.End = extproctest.AtOnce
	tests := []struct {
		name    string
		body    string
		answer  *extproctest.Answer
		status  int
		outcome ledger.Outcome
		source  ledger.Source
		output  int64
	}{
		{"stream", streamed, sse(role, word, word, word, finish, usage, done), 200, ledger.OK, ledger.Exact, 3},
		{"stream in one piece", streamed, sse(role + word + word + word + finish + usage + done), 200, ledger.OK, ledger.Exact, 3},
		{"hang-up at [DONE]", streamed, gone(sse(role, word, finish, usage, done)), 200, ledger.OK, ledger.Exact, 3},
		{"hang-up after usage", streamed, gone(sse(role, word, finish, usage)), 200, ledger.Aborted, ledger.Exact, 3},
		{"abort in the middle", streamed, gone(sse(role, word, word)), 200, ledger.Aborted, ledger.Estimated, 2},
		{"abort within an event", streamed, gone(sse(role, word, word[:30])), 200, ledger.Aborted, ledger.Estimated, 1},
		{"abort after the headers", streamed, gone(sse()), 200, ledger.Aborted, ledger.Estimated, 0},
		{"abort before the answer", streamed, nil, 0, ledger.Aborted, ledger.Estimated, 0},
		{"no usage", streamed, sse(role, word, word, finish, done), 200, ledger.OK, ledger.Estimated, 2},
		{"no [DONE]", streamed, sse(role, word, finish, usage), 200, ledger.OK, ledger.Exact, 3},
		{"clean end before the end", streamed, sse(role, word), 200, ledger.Cut, ledger.Estimated, 1},
		{"clean end without anything", streamed, sse(), 200, ledger.Cut, ledger.Estimated, 0},
		{"error event", streamed, sse(role, word, failed, done), 200, ledger.Cut, ledger.Estimated, 1},
		{"garbage in between", streamed, sse(role, "data: {garbage\n\n", word, finish, usage, done), 200, ledger.OK, ledger.Exact, 3},
		{"stream answered with JSON", streamed, answer(200, "application/json; charset=utf-8", json200), 200, ledger.OK, ledger.Exact, 3},
		{"plain", plain, answer(200, "application/json", json200), 200, ledger.OK, ledger.Exact, 3},
		{"plain in pieces", plain, answer(200, "application/json", json200[:20], json200[20:90], json200[90:]), 200, ledger.OK, ledger.Exact, 3},
		{"plain, cut", plain, gone(answer(200, "application/json", json200[:40])), 200, ledger.Aborted, ledger.Estimated, 1},
		{"plain, clean end before the end", plain, answer(200, "application/json", json200[:40]), 200, ledger.Cut, ledger.Estimated, 1},
		{"plain, client gone", plain, nil, 0, ledger.Aborted, ledger.Estimated, 0},
		{"compressed though not asked for", plain, compressed, 200, ledger.OK, ledger.Estimated, 100},
		{"upstream 400", plain, answer(400, "application/json", `{"error":{"message":"bad top_p","type":"BadRequestError","code":400}}`), 400, ledger.UpstreamError, ledger.Missing, 0},
		{"upstream 400, client gone", plain, gone(answer(400, "application/json", `{"err`)), 400, ledger.UpstreamError, ledger.Missing, 0},
		{"upstream 429", plain, answer(429, "application/json", `{}`), 429, ledger.UpstreamError, ledger.Missing, 0},
		{"upstream 401", plain, answer(401, "application/json", `{"error":"Unauthorized"}`), 502, ledger.UpstreamError, ledger.Missing, 0},
		{"upstream 302", plain, answer(302, "text/html", "moved"), 502, ledger.UpstreamError, ledger.Missing, 0},
		{"upstream 500", plain, answer(500, "text/html", "<html>"), 502, ledger.UpstreamError, ledger.Missing, 0},
		{"stream in one piece with its end", streamed, together(sse(role + word + word + word + finish + usage + done)), 200, ledger.OK, ledger.Exact, 3},
		{"upstream 503 without body", plain, bodiless, 503, ledger.UpstreamError, ledger.Missing, 0},
		{"Envoy's 503", plain, local(503), 503, ledger.UpstreamError, ledger.Missing, 0},
		{"Envoy's 504", plain, local(504), 504, ledger.UpstreamError, ledger.Missing, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, config.Limit{Name: "slots", Unit: config.Concurrency, Amount: 1})
			x := request(chatPath, tt.body)
			x.Answer = tt.answer
			result := r.run(x)
			records := r.records()
			if len(records) != 1 {
				t.Fatalf("settled %d times, want once", len(records))
			}
			got := records[0]
			if got.Status != tt.status || got.Outcome != tt.outcome || got.Source != tt.source || got.Tokens.Output != tt.output {
				t.Errorf("status %d, outcome %s, source %s, output %d\nwant   %d, %s, %s, %d",
					got.Status, got.Outcome, got.Source, got.Tokens.Output, tt.status, tt.outcome, tt.source, tt.output)
			}
			if reached := tt.outcome != ledger.UpstreamError; reached == (got.Tokens.Input == 0) {
				t.Errorf("input tokens %d", got.Tokens.Input)
			}
			if status := result.Client.Get(":status"); tt.status != 0 && status != strconv.Itoa(tt.status) {
				t.Errorf("the client got status %s, want %d", status, tt.status)
			}
		})
	}
}

// TestAbortsEverywhere ends the stream after each prefix of an answer.
func TestAbortsEverywhere(t *testing.T) {
	whole := role + word + word + finish + usage + done
	r := newRig(t, config.Limit{Name: "slots", Unit: config.Concurrency, Amount: 1})
	for i := range len(whole) {
		x := request(chatPath, streamed)
		x.Answer = sse(whole[:i/2], whole[i/2:i])
		x.Answer.End = extproctest.Gone
		r.run(x)
	}
	records := r.records()
	if len(records) != len(whole) {
		t.Fatalf("%d exchanges were settled, want %d", len(records), len(whole))
	}
	for i, rec := range records {
		exact := i >= len(role+word+word+finish+usage)
		if (rec.Source == ledger.Exact) != exact || rec.Tokens.Input == 0 {
			t.Errorf("aborted after %d bytes of %d: %+v", i, len(whole), rec)
		}
	}
}

func TestWhatGoesUpstream(t *testing.T) {
	r := newRig(t)
	x := request(chatPath+"?a=b", `{"model":"alias","stream":true,"messages":[]}`, extproctest.Header{Name: "accept-encoding", Value: "gzip"})
	result := r.run(x)
	want := `{"stream_options":{"include_usage":true},"max_tokens":100,"model":"m","stream":true,"messages":[]}`
	if got := string(result.Upstream.Body); !sameMembers(got, want) {
		t.Errorf("body %s\nwant the members of %s", got, want)
	}
	for name, want := range map[string]string{
		"x-weir-cluster": "upstream_up", "authorization": "Bearer sk-upstream", "accept-encoding": "",
		"content-length": strconv.Itoa(len(result.Upstream.Body)),
	} {
		if got := result.Upstream.Get(name); got != want {
			t.Errorf("header %s: %q, want %q", name, got, want)
		}
	}
	r.records()
}

// sameMembers compares objects whose members may come in another order.
func sameMembers(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for member := range strings.SplitSeq(strings.Trim(b, "{}"), ",") {
		if !strings.Contains(a, member) {
			return false
		}
	}
	return true
}

func TestRefusals(t *testing.T) {
	noBody := request(chatPath, "")
	noBody.Body = nil
	tests := []struct {
		name     string
		exchange extproctest.Exchange
		status   string
		says     string
	}{
		{"no body", noBody, "400", "body is empty"},
		{"empty body", request(chatPath, ""), "400", "body is empty"},
		{"not JSON", request(chatPath, "hello"), "400", "must be a JSON object"},
		{"unknown model", request(chatPath, `{"model":"x","messages":[]}`), "404", "model_not_found"},
		{"no model", request(chatPath, `{"messages":[]}`), "400", "must provide a model"},
		{"a path that Envoy should not ask about", request("/v1/other", plain), "500", "failed to handle"},
		{"a key revoked meanwhile", withKey("disabled"), "401", "invalid_api_key"},
		{"a key that is gone", withKey("gone"), "401", "invalid_api_key"},
		{"no key at all", by(""), "401", "didn't provide"},
		{"a caller beside an unknown key", request(chatPath, plain,
			extproctest.Header{Name: "x-weir-key", Value: "good"}, extproctest.Header{Name: "api-key", Value: "sk-unknown-0123456789"}), "401", "two different"},
		{"an unknown key", by("sk-unknown-0123456789"), "401", "invalid_api_key"},
		{"a disabled key", by("sk-old-0123456789"), "401", "invalid_api_key"},
		{"a key from nowhere", by("sk-net-0123456789"), "403", "from this address"},
		{"a key from another address", from("192.0.2.1:4711"), "403", "from this address"},
		{"two hosts", request(chatPath, plain, extproctest.Header{Name: ":authority", Value: "a,b"}), "400", "more than one Host"},
		{"a body that is compressed", request(chatPath, plain, extproctest.Header{Name: "content-encoding", Value: "gzip"}), "415", "Compressed"},
	}
	r := newRig(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.exchange.Answer = sse(done)
			result := r.run(tt.exchange)
			if result.Forwarded || !result.Immediate {
				t.Fatalf("it went upstream: %v", result.Transcript)
			}
			if got := result.Client.Get(":status"); got != tt.status || !strings.Contains(string(result.Client.Body), tt.says) {
				t.Errorf("status %s, %s; want %s, %q", got, result.Client.Body, tt.status, tt.says)
			}
		})
	}
	r.records()
}

// withKey is a request whose caller another filter knows.
func withKey(id string) extproctest.Exchange {
	x := by("")
	x.Request = append(x.Request, extproctest.Header{Name: "x-weir-key", Value: id})
	return x
}

// by is a request with that secret; "" is none.
func by(secret string) extproctest.Exchange {
	x := request(chatPath, plain)
	x.Request = slices.DeleteFunc(x.Request, func(h extproctest.Header) bool { return h.Name == "authorization" })
	if secret != "" {
		x.Request = append(x.Request, extproctest.Header{Name: "x-api-key", Value: secret})
	}
	return x
}

// from is a request from there, with a key that is for 10.0.0.0/8.
func from(source string) extproctest.Exchange {
	x := by("sk-net-0123456789")
	x.Source = source
	return x
}

// TestCallers has requests answered whose callers are told in every way there is. No
// credential of theirs reaches the upstream.
func TestCallers(t *testing.T) {
	r := newRig(t)
	for name, x := range map[string]extproctest.Exchange{
		"by a bearer token":     request(chatPath, plain),
		"from an address":       from("10.1.2.3:4711"),
		"from one that is IPv6": from("[::ffff:10.1.2.3]:4711"),
		"by another filter":     withKey("good"),
	} {
		x.Answer = sse(done)
		result := r.run(x)
		if !result.Forwarded || result.Immediate {
			t.Errorf("%s: %s", name, result.Client.Body)
		}
		for _, header := range envoy.CredentialHeaders {
			if got := result.Upstream.Get(header); got != "" && got != "Bearer sk-upstream" {
				t.Errorf("%s: the upstream gets %s: %s", name, header, got)
			}
		}
	}
	r.records()
}
