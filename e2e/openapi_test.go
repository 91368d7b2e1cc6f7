package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/weir-gateway/weir/api/openapi/openapitest"
)

// TestAnswersAreAsDescribed holds answers to clients and to operators, good ones and
// refusals, against /openapi.json.
func TestAnswersAreAsDescribed(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{
		extra: withAdmin(t) + "plans: {free: {limits: [{name: rpm, per: [key], requests: 1/h}]}}\n", model: "tokens=7",
		limits: "  - {name: rpm, per: [key], requests: 50000/m}\n  - {name: slots, per: [key], concurrency: 50}\n",
		keys:   "  - {id: few, plan: free, secret: sk-test-few-0123456789abcdef, endpoints: [/v1/chat/completions, /v1/messages]}\n",
	})
	doc, err := openapitest.Read(t.Context(), []byte(r.do(http.MethodGet, "/openapi.json", "", "Authorization", "").body))
	if err != nil {
		t.Fatal(err)
	}
	check := func(method, path, body string, status int, headers ...string) {
		t.Helper()
		got := r.do(method, path, body, headers...)
		if got.status != status {
			t.Errorf("%s %s: status %d, want %d: %s", method, path, got.status, status, got.body)
		}
		x := openapitest.Exchange{Method: method, Path: path, ContentType: "application/json", Body: body, Status: got.status, Header: got.header, Answer: got.body}
		if err := doc.Check(t.Context(), x); err != nil {
			t.Error(err)
		}
	}
	const few = "Bearer sk-test-few-0123456789abcdef"
	for path, members := range map[string]string{
		"/v1/chat/completions": said,
		"/v1/completions":      `"prompt":"Once"`,
		embeddings:             `"input":["one","two"]`,
		rerank:                 `"query":"q","documents":["a","b"]`,
		score:                  `"text_1":"a","text_2":["b","c"]`,
		responses:              `"input":"hello"`,
		messages:               `"max_tokens":20,` + said,
		countTokens:            said,
	} {
		check(http.MethodPost, path, asking("m", members), http.StatusOK)
		if strings.Contains(members, "messages") && path != countTokens || path == responses || path == "/v1/completions" {
			check(http.MethodPost, path, asking("m", `"stream":true,`+members), http.StatusOK)
		}
		check(http.MethodPost, path, asking("m", members), http.StatusUnauthorized, "Authorization", "Bearer sk-wrong")
		check(http.MethodPost, path, asking("nothing", members), http.StatusNotFound)
		check(http.MethodPost, path, "{", http.StatusBadRequest)
		check(http.MethodPost, path, asking("dead", members), http.StatusServiceUnavailable)
	}
	for _, path := range []string{"/v1/chat/completions", messages} {
		members := `"max_tokens":20,` + said
		if path == "/v1/chat/completions" {
			check(http.MethodPost, path, asking("m", members), http.StatusOK, "Authorization", few)
		}
		check(http.MethodPost, path, asking("m", members), http.StatusTooManyRequests, "Authorization", few)
	}
	check(http.MethodPost, embeddings, asking("m", `"input":"x"`), http.StatusForbidden, "Authorization", few)
	for _, path := range []string{"/v1/models", "/v1/models/m", "/v1/models/alias/info", "/v1/key", "/health", "/health?live", "/openapi.json"} {
		check(http.MethodGet, path, "", http.StatusOK)
	}
	check(http.MethodGet, "/v1/key", "", http.StatusUnauthorized, "Authorization", "")
	check(http.MethodGet, "/v1/key", "", http.StatusForbidden, "Authorization", few)
	for _, page := range []string{"/docs", "/redoc", "/docs/assets/swagger-ui-bundle.js", "/docs/assets/redoc.standalone.js"} {
		if got := r.do(http.MethodGet, page, "", "Authorization", ""); got.status != http.StatusOK || got.header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: status %d, %v", page, got.status, got.header)
		}
		if got := r.do(http.MethodPost, page, "{}"); got.status != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: status %d", page, got.status)
		}
	}
	if got := r.do(http.MethodGet, "/docs/nothing", ""); got.status != http.StatusNotFound || got.code() != "unknown_url" {
		t.Errorf("a page that there is not: status %d, %s", got.status, got.body)
	}
	r.describedToOperators(doc)
}

// describedToOperators holds the admin API's answers against the description.
func (r *rig) describedToOperators(doc *openapitest.Description) {
	r.t.Helper()
	ask := func(method, path, body, token string, status int) string {
		r.t.Helper()
		req, err := http.NewRequestWithContext(r.t.Context(), method, r.Admin+path, strings.NewReader(body))
		if err != nil {
			r.t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			r.t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			r.t.Fatal(err)
		}
		if resp.StatusCode != status {
			r.t.Errorf("%s: status %d, want %d: %s", path, resp.StatusCode, status, text)
		}
		x := openapitest.Exchange{Method: method, Path: path, ContentType: "application/json", Body: body, Status: resp.StatusCode, Header: resp.Header, Answer: string(text)}
		if err := doc.Check(r.t.Context(), x); err != nil {
			r.t.Error(err)
		}
		return string(text)
	}
	made := ask(http.MethodPost, "/weir.admin.v1.KeysService/Create",
		`{"options":{"user":"eve","plan":"free","expires":"2099-01-31T00:00:00Z","metadata":{"a":"b"},"limits":[{"name":"own","per":["key"],"tokens":"500/m"}]}}`, adminToken, http.StatusOK)
	_, id, _ := strings.Cut(made, `"id":"`)
	id, _, _ = strings.Cut(id, `"`)
	for _, c := range []struct {
		method, body string
		status       int
	}{
		{"KeysService/List", `{}`, 200},
		{"KeysService/Show", `{"id":"` + id + `"}`, 200},
		{"KeysService/Show", `{"id":"nobody"}`, 404},
		{"KeysService/Update", `{"id":"` + id + `","models":{"values":["m"]},"enabled":false}`, 200},
		{"KeysService/Rotate", `{"id":"` + id + `","grace":"3600s"}`, 200},
		{"KeysService/Revoke", `{"id":"` + id + `"}`, 200},
		{"KeysService/Create", `{"options":{"plan":"none"}}`, 400},
		{"PoolsService/Status", `{}`, 200},
		{"PoolsService/Disable", `{"key":"nobody"}`, 404},
		{"LimitsService/Usage", `{"key":"good"}`, 200},
		{"LimitsService/Reset", `{"key":"good"}`, 200},
		{"ExchangesService/List", `{}`, 200},
		{"ExchangesService/Cancel", `{"id":"nothing"}`, 404},
		{"ConfigService/Show", `{}`, 200},
		{"ConfigService/Reload", `{}`, 200},
	} {
		ask(http.MethodPost, "/weir.admin.v1."+c.method, c.body, adminToken, c.status)
		ask(http.MethodPost, "/weir.admin.v1."+c.method, c.body, "wrong", http.StatusUnauthorized)
	}
	ask(http.MethodPost, "/admin/reload-keys", "", adminToken, http.StatusOK)
	ask(http.MethodPost, "/admin/reset-failed-keys", "", "wrong", http.StatusUnauthorized)
	ask(http.MethodGet, "/metrics", "", adminToken, http.StatusOK)
}
