package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-gateway/weir/simulator"
)

// answerCanary is what the talkative upstream answers.
const answerCanary = "glockenspiel-canary"

// wrongKey is a secret that weir does not know.
const wrongKey = "sk-wrong-canary-0123456789abcdef"

// talkative is an upstream that tells everything it was told: the credential and the
// request in errors, and a text of its own in answers.
func talkative() http.Handler {
	sim := simulator.New(simulator.Options{Models: []simulator.Model{{Name: "m", Script: simulator.Script{Tokens: 7}}}, Key: upstreamSecret})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var status int
		if _, err := fmt.Sscanf(r.Header.Get("X-Tell"), "%d", &status); err != nil {
			sim.ServeHTTP(w, r)
			return
		}
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if status == http.StatusOK {
			fmt.Fprintf(w, `{"choices":[{"message":{"content":%q},"finish_reason":%q}],"usage":{"prompt_tokens":1,"completion_tokens":2}}`, answerCanary, answerCanary)
			return
		}
		message, _ := json.Marshal("the key " + r.Header.Get("Authorization") + " may not ask " + string(body))
		fmt.Fprintf(w, `{"error":{"message":%s,"type":%q,"code":%q}}`, message, answerCanary, answerCanary)
	})
}

// TestNothingTells: whatever is asked, and whatever an upstream says, no secret, no
// prompt and no answer is in logs of any level, in the ledger, in Envoy's access log, in
// metrics, in traces, in what operators see, or in errors to others.
func TestNothingTells(t *testing.T) {
	t.Parallel()
	const asked = 27 // requests, below
	access := filepath.Join(shortDir(t), "access.log")
	r := traced(t, fixture{
		upstream: talkative(), limits: "  - {name: slots, concurrency: 50}\n",
		extra: withAdmin(t) + fmt.Sprintf("envoy: {access_log: %q}\n", access),
		keys:  "  - {id: limited, secret: " + limitedKey + ", limits: [{name: few, per: [key], requests: 1/h}]}\n",
		env:   []string{"LOG_LEVEL=trace"},
	})
	for _, credential := range [][]string{
		{"Authorization", "Bearer " + wrongKey},
		{"Authorization", wrongKey},
		{"Authorization", "Basic " + wrongKey},
		{"Authorization", "", "x-api-key", wrongKey},
		{"Authorization", "", "api-key", wrongKey},
		{"Authorization", "Bearer " + goodKey, "x-api-key", wrongKey},
	} {
		r.post(chat(), credential...)
	}
	r.do(http.MethodPost, "/v1/chat/completions?key="+goodKey+"&prompt="+promptCanary, chat())
	r.post(chat(`"stream":true`))
	r.post(chat(`"tools":[{"type":"function","function":{"name":"` + promptCanary + `"}}],"stop":"` + promptCanary + `"`))
	r.post(chat(`"user":"` + promptCanary + `"`))
	for _, path := range []string{"/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages", "/v1/rerank"} {
		r.do(http.MethodPost, path, `{"model":"m","max_tokens":9,"prompt":"`+promptCanary+`","input":"`+promptCanary+`","query":"`+promptCanary+`","documents":["`+promptCanary+`"],"messages":[{"role":"user","content":"`+promptCanary+`"}]}`)
	}
	for range 2 {
		r.post(chat(), "Authorization", "Bearer "+limitedKey)
	}
	r.post(chat(), "Traceparent", goodKey, "Tracestate", "a="+promptCanary, "Baggage", "prompt="+promptCanary)
	r.post(chat(), "X-Tell", "200")
	for _, status := range []string{"401", "402", "403", "429", "500", "503"} {
		r.tells(status)
	}
	leave(r, 3, "tokens=500,pace=10ms")
	r.eventually("all is settled", func() bool { return r.metric("weir_exchanges_live") == "0" })

	if got := r.tells("400"); !strings.Contains(got.body, promptCanary) {
		t.Errorf("the client is not told what its upstream says: %d %s", got.status, got.body)
	}
	told := map[string]string{"the log": r.Log(), "the access log": "", "traces": r.traces.all()}
	r.eventually("the access log tells of all", func() bool {
		text, err := os.ReadFile(access)
		told["the access log"] = string(text)
		return err == nil && strings.Count(string(text), "\n") >= asked
	})
	for path, text := range r.dashboard() {
		told["the dashboard's "+path] = text
	}
	ledger, err := os.ReadFile(filepath.Join(r.Dir, "usage.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	told["the ledger"] = string(ledger)
	_, metrics := r.asked("/weir.admin.v1.ExchangesService/List", "{}", adminToken)
	told["exchanges"] = fmt.Sprint(metrics)
	for what, text := range told {
		if text == "" {
			t.Errorf("%s is empty", what)
		}
		for _, secret := range append(secrets, answerCanary, wrongKey, limitedKey) {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%s shows %q: %s", what, secret, text[max(0, i-200):min(len(text), i+100)])
			}
		}
	}
}

// tells has the upstream answer with that status and tell all it knows. What it says of
// the request is the client's own to read, but no more.
func (r *rig) tells(status string) reply {
	r.t.Helper()
	resp, err := r.send(r.t.Context(), http.MethodPost, "/v1/chat/completions", chat(), "X-Tell", status)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := readAll(resp)
	if err != nil {
		r.t.Fatal(err)
	}
	if strings.Contains(text, upstreamSecret) || strings.Contains(text, goodKey) {
		r.t.Errorf("of a status of %s the client is told %s", status, text)
	}
	return reply{resp.StatusCode, resp.Header, text}
}

// dashboard is what the dashboard's pages show to who is logged in.
func (r *rig) dashboard() map[string]string {
	r.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	read := func(method, path, form string) string {
		req, err := http.NewRequestWithContext(r.t.Context(), method, r.Admin+"/dashboard"+path, strings.NewReader(form))
		if err != nil {
			r.t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := client.Do(req)
		if err != nil {
			r.t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := readAll(resp)
		if err != nil || resp.StatusCode != http.StatusOK || strings.HasSuffix(resp.Request.URL.Path, "/login") {
			r.t.Fatalf("%s: %s: %v", resp.Request.URL, resp.Status, err)
		}
		return text
	}
	pages := map[string]string{"login": read(http.MethodPost, "/login", url.Values{"token": {adminToken}}.Encode())}
	for _, path := range []string{"/", "/keys", "/keys/key?id=good", "/pools", "/requests", "/limits", "/config", "/series"} {
		pages[path] = read(http.MethodGet, path, "")
	}
	return pages
}

// TestOneLineAnExchange: the log has exactly one line of each exchange, however it ends,
// at the level info, or warn where the gateway or an upstream failed.
func TestOneLineAnExchange(t *testing.T) {
	t.Parallel()
	for _, metering := range []string{"streamed", "native"} {
		t.Run(metering, func(t *testing.T) {
			t.Parallel()
			r := start(t, fixture{
				metering: metering,
				keys:     "  - {id: limited, secret: " + limitedKey + ", limits: [{name: few, per: [key], requests: 1/h}]}\n",
			})
			r.post(chat())
			r.post(chat(`"stream":true`))
			r.post(`{"model":"nobody"}`)
			r.post(`{`)
			r.post(`{"model":"dead","messages":[]}`)
			for range 3 { // the last is refused before its body is read
				r.post(chat(), "Authorization", "Bearer "+limitedKey)
			}
			for _, script := range []string{"fail=status:500", "fail=status:401", "fail=status:400", "fail=end:4", "fail=error:4", "fail=reset:0"} {
				r.post(chat(`"stream":true`), "X-Simulate", script)
			}
			leave(r, 3, "tokens=500,pace=10ms")
			ctx, cancel := context.WithCancel(t.Context())
			r.settled(15)
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				_, _ = r.try(ctx, http.MethodPost, "/v1/chat/completions", chat(), "X-Simulate", "fail=hang:0") // it is cancelled
			}()
			r.eventually("it waits for its upstream", func() bool { return r.metric("weir_exchanges_live") == "1" })
			cancel() // who leaves before the answer
			<-gone
			status := map[string]int{}
			for _, rec := range r.settled(16) {
				status[rec.RequestID] = rec.Status
			}
			lines := map[string]int{}
			for line := range strings.Lines(r.Log()) {
				var l struct {
					Level, Message string
					ID             string `json:"request_id"`
				}
				if err := json.Unmarshal([]byte(line), &l); err != nil {
					t.Fatalf("not a JSON line: %v: %s", err, line)
				}
				want := map[bool]string{true: "warn", false: "info"}[status[l.ID] >= 500]
				switch {
				case l.ID == "" || l.Level == "error":
				case l.Message != "exchange" || l.Level != want:
					t.Errorf("want the level %s: %s", want, line)
				default:
					lines[l.ID]++
				}
			}
			for id := range status {
				if lines[id] != 1 {
					t.Errorf("%d lines of %s", lines[id], id)
				}
			}
			if len(lines) != len(status) {
				t.Errorf("lines of %d exchanges, of %d in the ledger", len(lines), len(status))
			}
		})
	}
}
