package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-gateway/weir/ledger"
	adminv1 "github.com/weir-gateway/weir/proto/weir/admin/v1"
	"github.com/weir-gateway/weir/proto/weir/admin/v1/adminv1connect"
)

const adminToken = "canary-of-the-admin-0123456789abcdef"

// withAdmin has a site serve its admin API, with adminToken.
func withAdmin(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "admin.token")
	writeFile(t, file, adminToken+"\n")
	return "admin: {listen: \"127.0.0.1:0\", token_file: \"" + file + "\"}\n"
}

// bearing shows the token on every request.
type bearing struct{ token string }

func (b bearing) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return http.DefaultTransport.RoundTrip(r)
}

// asked is what JSON by plain HTTP answers.
func (r *rig) asked(method, body, token string) (int, map[string]any) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.Admin+method, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := readAll(resp)
	if err != nil {
		r.t.Fatal(err)
	}
	if strings.Contains(text, adminToken) {
		r.t.Errorf("%s answers with the token: %s", method, text)
	}
	var out map[string]any
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		r.t.Fatalf("%s: %d %s: %v", method, resp.StatusCode, text, err)
	}
	return resp.StatusCode, out
}

// TestAdminNeedsItsToken on every path and in every protocol.
func TestAdminNeedsItsToken(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{extra: withAdmin(t)})
	for _, token := range []string{"", "wrong", adminToken + "x", adminToken[:len(adminToken)-1], goodKey} {
		for _, path := range []string{"/weir.admin.v1.KeysService/List", "/admin/reload-keys", "/pools/reset", "/metrics", "/"} {
			status, body := r.asked(path, "{}", token)
			text, _ := json.Marshal(body)
			if status != http.StatusUnauthorized || !strings.Contains(string(text), "admin.token_file") {
				t.Errorf("%s with %q: status %d, %s", path, token, status, text)
			}
		}
		client := adminv1connect.NewKeysServiceClient(&http.Client{Transport: bearing{token}}, r.Admin, connect.WithGRPCWeb())
		if _, err := client.List(t.Context(), connect.NewRequest(&adminv1.ListKeysRequest{})); connect.CodeOf(err) != connect.CodeUnauthenticated {
			t.Errorf("gRPC-Web with %q: %v", token, err)
		}
	}
	if status, _ := r.asked("/weir.admin.v1.KeysService/List", "{}", adminToken); status != http.StatusOK {
		t.Errorf("with the token: status %d", status)
	}
	if got := r.do(http.MethodPost, "/weir.admin.v1.KeysService/List", "{}", "Authorization", "Bearer "+adminToken); got.status != http.StatusNotFound {
		t.Errorf("from the public listener: status %d", got.status)
	}
	if strings.Contains(r.Log(), adminToken) {
		t.Error("the log shows the token")
	}
}

// TestAdminSlowsGuessesDown keeps those who guess out for a while, whatever they show.
func TestAdminSlowsGuessesDown(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{extra: withAdmin(t)})
	ask := func(token string) (status int, retryAfter string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.Admin+"/weir.admin.v1.KeysService/List", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("Retry-After")
	}
	status, guesses, retryAfter := 0, 0, ""
	for ; guesses < 50 && status != http.StatusTooManyRequests; guesses++ {
		status, retryAfter = ask(fmt.Sprint("guess ", guesses))
	}
	if retryAfter == "" {
		t.Error("nothing says when to come back")
	}
	if guesses < 11 || guesses == 50 {
		t.Errorf("%d guesses before they were slowed down", guesses)
	}
	if status, _ = ask(adminToken); status != http.StatusOK {
		t.Errorf("the right one, which is long, while guesses are refused: status %d", status)
	}
	status, body := r.asked("/pools/reset", "", "one more")
	if message, _ := body["error"].(string); status != http.StatusTooManyRequests || !strings.Contains(message, "try again in") {
		t.Errorf("status %d, %v", status, body)
	}
	if r.overSocket("ops.sock", "/pools") == "" {
		t.Error("the owner is kept out")
	}
}

// TestAdminKeys follows a key through its life, over gRPC and over JSON.
func TestAdminKeys(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{extra: withAdmin(t) + "plans: {free: {limits: [{name: rpm, per: [key], requests: 50000/m}]}}\n"})
	transport := &http.Transport{Protocols: &http.Protocols{}} // gRPC in clear text, as grpcurl -plaintext does
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	keys := adminv1connect.NewKeysServiceClient(&http.Client{Transport: transport}, r.Admin, connect.WithGRPC(),
		connect.WithInterceptors(connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
			return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
				req.Header().Set("Authorization", "Bearer "+adminToken)
				return next(ctx, req)
			}
		})))
	made, err := keys.Create(t.Context(), connect.NewRequest(&adminv1.CreateKeyRequest{Options: &adminv1.KeyOptions{
		Label: "laptop", User: "eve", Plan: "free", Models: []string{"m"}, Metadata: map[string]string{"cost": "7"},
	}}))
	if err != nil {
		t.Fatal(err)
	}
	id, first := made.Msg.GetKey().GetId(), made.Msg.GetSecret()
	status := func(secret string) int { return r.post(chat(), "Authorization", "Bearer "+secret).status }
	if got := status(first); got != http.StatusOK {
		t.Fatalf("the new key: status %d", got)
	}
	if _, err := keys.Create(t.Context(), connect.NewRequest(&adminv1.CreateKeyRequest{Options: &adminv1.KeyOptions{Plan: "fre"}})); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("a plan that there is not: %v", err)
	}
	over := &adminv1.KeyOptions{Expires: timestamppb.New(time.Now().Add(-time.Second))}
	if _, err := keys.Create(t.Context(), connect.NewRequest(&adminv1.CreateKeyRequest{Options: over})); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("a key that has expired: %v", err)
	}
	if _, err := keys.Create(t.Context(), connect.NewRequest(&adminv1.CreateKeyRequest{Options: &adminv1.KeyOptions{Cidrs: []string{"10.0.0.0"}}})); err == nil || !strings.Contains(err.Error(), "address range") {
		t.Errorf("a bad range: %v", err)
	}
	for _, c := range []struct {
		enabled string
		want    int
	}{{"false", http.StatusUnauthorized}, {"true", http.StatusOK}} {
		enabled, want := c.enabled, c.want
		if got, body := r.asked("/weir.admin.v1.KeysService/Update", `{"id":"`+id+`","enabled":`+enabled+`}`, adminToken); got != http.StatusOK {
			t.Errorf("enabled: %s: %d %v", enabled, got, body)
		}
		if got := status(first); got != want {
			t.Errorf("enabled: %s: status %d", enabled, got)
		}
	}
	rotated, err := keys.Rotate(t.Context(), connect.NewRequest(&adminv1.RotateKeyRequest{Id: id, Grace: durationpb.New(3 * time.Second)}))
	if err != nil {
		t.Fatal(err)
	}
	second := rotated.Msg.GetSecret()
	if a, b := status(first), status(second); a != http.StatusOK || b != http.StatusOK {
		t.Errorf("in the grace: status %d and %d", a, b)
	}
	r.eventually("the old secret is refused", func() bool { return status(first) == http.StatusUnauthorized })
	if got := status(second); got != http.StatusOK {
		t.Errorf("the new secret after the grace: status %d", got)
	}
	_, shown := r.asked("/weir.admin.v1.KeysService/Show", `{"id":"`+id+`"}`, adminToken)
	text, _ := json.Marshal(shown)
	for _, want := range []string{"laptop", "eve", "KEY_STATE_ACTIVE", `"cost":"7"`, "keys.yaml"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	if _, err := keys.Revoke(t.Context(), connect.NewRequest(&adminv1.RevokeKeyRequest{Id: id})); err != nil {
		t.Fatal(err)
	}
	if got := status(second); got != http.StatusUnauthorized {
		t.Errorf("revoked: status %d", got)
	}
	if got, body := r.asked("/weir.admin.v1.KeysService/Update", `{"id":"`+id+`","enabled":true}`, adminToken); got != http.StatusBadRequest {
		t.Errorf("a revoked key was enabled: %d %v", got, body)
	}
	if got, _ := r.asked("/weir.admin.v1.KeysService/Show", `{"id":"nobody"}`, adminToken); got != http.StatusNotFound {
		t.Errorf("nobody: %d", got)
	}
	if got := r.post(chat()).status; got != http.StatusOK {
		t.Errorf("another key has suffered: status %d", got)
	}
	log := r.Log()
	for _, want := range []string{"key created", "key enabled", "key disabled", "key rotated", "key revoked"} {
		if !strings.Contains(log, `"audit":"`+want+`","who":"token from 127.0.0.1:`) {
			t.Errorf("no audit line %q", want)
		}
	}
	for _, secret := range []string{first, second, adminToken} {
		if strings.Contains(log+string(text), secret) {
			t.Error("a secret shows in the log or in an answer")
		}
	}
}

// TestAdminConfig shows the configuration without secrets, and reloads.
func TestAdminConfig(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{extra: withAdmin(t)})
	_, shown := r.asked("/weir.admin.v1.ConfigService/Show", "{}", adminToken)
	text, _ := json.Marshal(shown)
	if strings.Contains(string(text), "canary") || !strings.Contains(string(text), "sk-…6789") || !strings.Contains(string(text), `"maxChoices":"128"`) {
		t.Errorf("config: %s", text)
	}
	if got, body := r.asked("/weir.admin.v1.ConfigService/Reload", "{}", adminToken); got != http.StatusOK || body["keys"] != 2.0 || body["needRestart"] != nil {
		t.Errorf("reload: %d %v", got, body)
	}
	file := filepath.Join(r.Dir, "weir.yaml")
	yaml, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, file, strings.Replace(string(yaml), "ledger: {file: usage.jsonl", "ledger: {keep: 3, file: usage.jsonl", 1))
	if _, body := r.asked("/weir.admin.v1.ConfigService/Reload", "{}", adminToken); fmt.Sprint(body["needRestart"]) != "[ledger]" || body["configError"] != nil {
		t.Errorf("reload of another weir.yaml: %v", body)
	}
	writeFile(t, file, "nonsense: true")
	if _, body := r.asked("/weir.admin.v1.ConfigService/Reload", "{}", adminToken); !strings.Contains(fmt.Sprint(body["configError"]), "weir.yaml:1:1") {
		t.Errorf("reload of a bad weir.yaml: %v", body)
	}
	if got, body := r.asked("/admin/reload-keys", "", adminToken); got != http.StatusOK || body["keys"] != 2.0 {
		t.Errorf("plain reload: %d %v", got, body)
	}
}

// TestAdminCancel ends requests in every phase, and frees their slots.
func TestAdminCancel(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	t.Cleanup(func() { close(gate) })
	slow := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		flush := func(text string) {
			_, _ = io.WriteString(w, text)
			w.(http.Flusher).Flush()
		}
		stop := func() bool {
			select {
			case <-gate:
			case <-r.Context().Done():
			case <-time.After(20 * time.Millisecond):
				return false
			}
			return true
		}
		switch {
		case strings.Contains(string(body), "wait for ever"):
		case strings.Contains(string(body), "a plain answer"):
			w.Header().Set("Content-Type", "application/json")
			flush(`{"id":"x","object":"chat.completion","choices":[`)
		default:
			w.Header().Set("Content-Type", "text/event-stream")
			flush("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"}}]}\n\n")
			for !strings.Contains(string(body), "one word") && !stop() {
				flush("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"}}]}\n\n")
			}
		}
		for stopped := false; !stopped; {
			stopped = stop()
		}
	}
	const streaming = `"stream":true`
	for name, c := range map[string]struct {
		fixture fixture
		say     string
		stream  bool
		phase   string
		says    bool // the client is told why
	}{
		"before the answer":         {fixture{}, "wait for ever", false, "EXCHANGE_PHASE_WAITING", true},
		"before a stream":           {fixture{}, "wait for ever", true, "EXCHANGE_PHASE_WAITING", true},
		"a plain answer":            {fixture{}, "a plain answer", false, "EXCHANGE_PHASE_ANSWERING", false},
		"a stream":                  {fixture{metering: "streamed"}, "words", true, "EXCHANGE_PHASE_ANSWERING", true},
		"a silent stream":           {fixture{metering: "streamed"}, "one word", true, "EXCHANGE_PHASE_ANSWERING", false},
		"a stream that is watched":  {fixture{idle: "1m"}, "one word", true, "EXCHANGE_PHASE_ANSWERING", true},
		"a native stream":           {fixture{metering: "native"}, "words", true, "EXCHANGE_PHASE_ANSWERING_NATIVELY", false},
		"a silent stream, natively": {fixture{metering: "native"}, "one word", true, "EXCHANGE_PHASE_ANSWERING_NATIVELY", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gone := make(chan struct{}, 8)
			f := c.fixture
			f.extra = withAdmin(t)
			f.limits = "  - {name: one, per: [key], concurrency: 1}\n"
			f.upstream = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				slow(w, r)
				gone <- struct{}{}
			})
			r := start(t, f)
			body := `{"model":"m","messages":[{"role":"user","content":"` + c.say + `"}]}`
			if c.stream {
				body = strings.TrimSuffix(body, "}") + "," + streaming + "}"
			}
			type outcome struct {
				status int
				body   string
				err    error
			}
			done := make(chan outcome, 1)
			go func() {
				resp, err := r.send(t.Context(), http.MethodPost, "/v1/chat/completions", body)
				if err != nil {
					done <- outcome{err: err}
					return
				}
				defer resp.Body.Close()
				text, err := io.ReadAll(bufio.NewReader(resp.Body))
				done <- outcome{resp.StatusCode, string(text), err}
			}()
			var id string
			r.eventually("it is listed as "+c.phase, func() bool {
				_, list := r.asked("/weir.admin.v1.ExchangesService/List", `{"key":"good"}`, adminToken)
				all, _ := list["exchanges"].([]any)
				if len(all) != 1 {
					return false
				}
				x := all[0].(map[string]any)
				id, _ = x["id"].(string)
				return x["phase"] == c.phase && x["user"] == "ann" && x["upstream"] == "sim"
			})
			if got := r.post(chat()); got.status != http.StatusTooManyRequests {
				t.Fatalf("beside it: status %d", got.status)
			}
			begin := time.Now()
			got, answer := r.asked("/weir.admin.v1.ExchangesService/Cancel", `{"id":"`+id+`"}`, adminToken)
			if got != http.StatusOK || answer["ended"] != true {
				t.Fatalf("cancel: %d %v", got, answer)
			}
			t.Logf("it took %v", time.Since(begin))
			var o outcome
			select {
			case o = <-done:
			case <-time.After(5 * time.Second):
				t.Fatal("the client still waits")
			}
			select {
			case <-gone:
			case <-time.After(5 * time.Second):
				t.Error("the upstream still works")
			}
			if waiting := c.phase == "EXCHANGE_PHASE_WAITING"; waiting && (o.err != nil || o.status != http.StatusServiceUnavailable) || !waiting && o.err == nil {
				t.Errorf("the client saw %+v", o)
			}
			if c.says != strings.Contains(o.body, "cancelled by an operator") {
				t.Errorf("the client was told: %q", o.body)
			}
			if strings.Contains(o.body, "[DONE]") {
				t.Error("the client takes it for complete")
			}
			record := r.settled(2)[1]
			if record.Outcome == ledger.OK || record.Outcome == ledger.Refused || record.KeyID != "good" {
				t.Errorf("the ledger: %+v", record)
			}
			// Its slot is free.
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if next, err := r.try(ctx, http.MethodPost, "/v1/chat/completions", body); err == nil && next.status == http.StatusTooManyRequests {
				t.Errorf("the slot is still taken: %s", next.body)
			} else if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			if got, _ := r.asked("/weir.admin.v1.ExchangesService/Cancel", `{"id":"`+id+`"}`, adminToken); got != http.StatusNotFound {
				t.Errorf("a second time: %d", got)
			}
		})
	}
}
