package main

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// What is sent and answered.
const (
	modelName   = "m"
	pooledName  = "p" // the same, of an upstream with a pool of keys
	promptBytes = 200
	plainTokens = 32
	pace        = 10 * time.Millisecond // between the tokens of a stream

	callerKey = "sk-bench-caller-0123456789abcdef"
	spentKey  = "sk-bench-spent-0123456789abcdef" // its limit is one request an hour
	wrongKey  = "sk-bench-wrong-0123456789abcdef" // nobody's
)

// plan says what is measured.
type plan struct {
	rounds int
	// spare is the time for rounds that take the place of disturbed ones.
	spare     time.Duration
	workloads []workload
}

// workload is a load of requests that are all alike.
type workload struct {
	name    string
	request []byte
	conns   int // at most so many at a time
	warmup  int // requests before the measured ones
	count   int // requests that are measured
	// tokens of a stream, one a chunk; 0 is no stream.
	tokens int
	// status is what the answers must have.
	status int
	// rate is how many requests a second are sent, answered or not; 0 sends the
	// next one when one is answered.
	rate int
	// chains are those that the load is for.
	chains []string
}

// The workloads.
const (
	single   = "single"
	plainly  = "plain"
	unknown  = "401"
	limited  = "429"
	pooled   = "pool"
	shortest = 32  // tokens of the short streams
	usual    = 128 // of the usual
	longest  = 256 // of the long
)

// The rates of requests that come whether others are answered or not.
const (
	slow = 250
	fast = 1000
)

func rateName(rate int) string { return fmt.Sprintf("rate-%d", rate) }

func streamName(tokens int) string { return fmt.Sprintf("stream-%d", tokens) }

// fullPlan takes about 75 seconds a round.
func fullPlan(rounds int) plan {
	return plan{rounds: rounds, spare: 90 * time.Second, workloads: []workload{
		one(50, 1000),
		eight(500, 6000),
		atRate(slow, 125, 1000),
		atRate(fast, 500, 3000),
		stream(shortest, 32, 7),
		stream(usual, 32, 2),
		stream(longest, 32, 1),
		refused(unknown, wrongKey, http.StatusUnauthorized, 3000),
		refused(limited, spentKey, http.StatusTooManyRequests, 3000),
		pool(500, 6000),
	}}
}

// only leaves out all loads but those of these names.
func (p *plan) only(names []string) error {
	var kept []workload
	var known []string
	for _, w := range p.workloads {
		known = append(known, w.name)
		if slices.Contains(names, w.name) {
			kept = append(kept, w)
		}
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return fmt.Errorf("there is no load %q; there are %s", name, strings.Join(known, ", "))
		}
	}
	p.workloads = kept
	return nil
}

// quickPlan proves that everything works.
func quickPlan() plan {
	return plan{rounds: 1, workloads: []workload{
		one(20, 200),
		eight(500, 2000),
		atRate(slow, 25, 250),
		atRate(fast, 100, 1000),
		stream(shortest, 32, 2),
		stream(usual, 32, 1),
		stream(longest, 32, 1),
		refused(unknown, wrongKey, http.StatusUnauthorized, 800),
		refused(limited, spentKey, http.StatusTooManyRequests, 800),
		pool(500, 2000),
	}}
}

// one is a request at a time: latency without queues.
func one(warmup, count int) workload {
	return workload{name: single, request: chat(callerKey, 0), conns: 1, warmup: warmup, count: count, status: http.StatusOK, chains: withGRPC(compared())}
}

// eight are plain requests as fast as they are answered.
func eight(warmup, count int) workload {
	return workload{name: plainly, request: chat(callerKey, 0), conns: 8, warmup: warmup, count: count, status: http.StatusOK, chains: withGRPC(compared())}
}

// atRate are plain requests when they are due.
func atRate(rate, warmup, count int) workload {
	return workload{
		name: rateName(rate), request: chat(callerKey, 0), conns: 64, warmup: warmup, count: count, status: http.StatusOK,
		rate: rate, chains: chainNames(),
	}
}

// pool is eight through an upstream with a pool of keys.
func pool(warmup, count int) workload {
	w := eight(warmup, count)
	w.name, w.chains, w.request = pooled, []string{chainWeir}, chatWith(pooledName, callerKey, 0)
	return w
}

// stream is so many streams at a time, on each connection several in turn.
func stream(tokens, atOnce, turns int) workload {
	w := workload{
		name: streamName(tokens), request: chat(callerKey, tokens), tokens: tokens,
		conns: atOnce, count: atOnce * turns, status: http.StatusOK, chains: streaming(),
	}
	if tokens == usual {
		w.chains = withGRPC(w.chains)
	}
	return w
}

// delay is how long connection i waits before it begins. Streams begin one after
// the other, and their chunks come evenly spread: as many clients, each of which
// knows nothing of the others.
func (w *workload) delay(i int) time.Duration {
	if w.tokens == 0 {
		return 0
	}
	return time.Duration(i) * (pace + pace/time.Duration(w.conns))
}

// refused are requests that weir does not admit.
func refused(name, key string, status, count int) workload {
	return workload{
		name: name, request: chat(key, 0), conns: 8, warmup: count / 10, count: count, status: status, chains: []string{chainWeir},
	}
}

// chat is an HTTP request. The header x-simulate tells the simulator how to
// answer it.
func chat(key string, streamed int) []byte { return chatWith(modelName, key, streamed) }

func chatWith(model, key string, streamed int) []byte {
	script, more := fmt.Sprintf("tokens=%d", plainTokens), ""
	if streamed > 0 {
		script, more = fmt.Sprintf("tokens=%d,pace=%v", streamed, pace), `,"stream":true`
	}
	body := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":%q}],"max_tokens":512,"temperature":0.7%s}`,
		model, prompt(), more)
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST /v1/chat/completions HTTP/1.1\r\nHost: weir\r\nUser-Agent: bench\r\nAccept: application/json\r\n"+
		"Authorization: Bearer %s\r\nX-Simulate: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		key, script, len(body), body)
	return b.Bytes()
}

func prompt() string {
	const words = "What does a weir do for the river that it stands in? "
	return strings.Repeat(words, promptBytes/len(words)+1)[:promptBytes]
}

// check sees that an answer is the right one.
func (w *workload) check(r *reply) error {
	switch {
	case r.status != w.status:
		return fmt.Errorf("%s: status %d, want %d: %s", w.name, r.status, w.status, r.body)
	case w.status != http.StatusOK:
		return nil
	case w.tokens == 0:
		if usage := fmt.Sprintf(`"completion_tokens":%d,`, plainTokens); !bytes.Contains(r.body, []byte(usage)) {
			return fmt.Errorf("%s: the answer has no %s: %s", w.name, usage, r.body)
		}
		return nil
	}
	// An event opens the answer and one closes it. Usage was not asked for.
	if got, want := bytes.Count(r.body, []byte("data: ")), w.tokens+2; got != want {
		return fmt.Errorf("%s: %d events, want %d: %s", w.name, got, want, r.body)
	}
	if !bytes.HasSuffix(r.body, []byte("data: [DONE]\n\n")) {
		return fmt.Errorf("%s: the answer does not end in [DONE]: %s", w.name, r.body)
	}
	return nil
}
