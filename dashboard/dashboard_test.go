package dashboard

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-gateway/weir/admin"
	"github.com/weir-gateway/weir/keyring"
	adminv1 "github.com/weir-gateway/weir/proto/weir/admin/v1"
	"github.com/weir-gateway/weir/proto/weir/admin/v1/adminv1connect"
	configv1 "github.com/weir-gateway/weir/proto/weir/config/v1"
)

const token = "0123456789abcdef-token"

// services are those of a weir that is in a state of a test's choice.
type services struct {
	adminv1connect.UnimplementedKeysServiceHandler
	keys      []*adminv1.Key
	limits    []*adminv1.LimitUsage
	limitsErr error
	pools     []*adminv1.Pool
	exchanges []*adminv1.Exchange
	reload    *adminv1.ReloadConfigResponse
	asked     int // for limits
}

func (s *services) List(context.Context, *connect.Request[adminv1.ListKeysRequest]) (*connect.Response[adminv1.ListKeysResponse], error) {
	return connect.NewResponse(&adminv1.ListKeysResponse{Keys: append([]*adminv1.Key(nil), s.keys...)}), nil
}

func (s *services) Show(_ context.Context, req *connect.Request[adminv1.ShowKeyRequest]) (*connect.Response[adminv1.ShowKeyResponse], error) {
	for _, k := range s.keys {
		if k.GetId() == req.Msg.GetId() {
			return connect.NewResponse(&adminv1.ShowKeyResponse{Key: k}), nil
		}
	}
	return nil, connect.NewError(connect.CodeNotFound, errors.New("there is no such key"))
}

type limitsService struct {
	adminv1connect.UnimplementedLimitsServiceHandler
	*services
}

func (s limitsService) Usage(_ context.Context, req *connect.Request[adminv1.LimitsUsageRequest]) (*connect.Response[adminv1.LimitsUsageResponse], error) {
	s.asked++
	out := &adminv1.LimitsUsageResponse{}
	for _, l := range s.limits {
		if key := req.Msg.GetKey(); key == "" || l.GetKey() == key || l.GetKey() == "" {
			out.Limits = append(out.Limits, l)
		}
	}
	return connect.NewResponse(out), s.limitsErr
}

type poolsService struct {
	adminv1connect.UnimplementedPoolsServiceHandler
	*services
}

func (s poolsService) Status(context.Context, *connect.Request[adminv1.PoolsStatusRequest]) (*connect.Response[adminv1.PoolsStatusResponse], error) {
	return connect.NewResponse(&adminv1.PoolsStatusResponse{Pools: s.pools}), nil
}

type exchangesService struct {
	adminv1connect.UnimplementedExchangesServiceHandler
	*services
}

func (s exchangesService) List(context.Context, *connect.Request[adminv1.ListExchangesRequest]) (*connect.Response[adminv1.ListExchangesResponse], error) {
	return connect.NewResponse(&adminv1.ListExchangesResponse{Exchanges: s.exchanges}), nil
}

type configService struct {
	adminv1connect.UnimplementedConfigServiceHandler
	*services
}

func (s configService) Show(context.Context, *connect.Request[adminv1.ShowConfigRequest]) (*connect.Response[adminv1.ShowConfigResponse], error) {
	return connect.NewResponse(&adminv1.ShowConfigResponse{Config: &configv1.Config{Listen: "127.0.0.1:8080", Models: []*configv1.Model{{Name: "m", Context: 131000}}}, File: "weir.yaml"}), nil
}

func (s configService) Reload(context.Context, *connect.Request[adminv1.ReloadConfigRequest]) (*connect.Response[adminv1.ReloadConfigResponse], error) {
	return connect.NewResponse(s.reload), nil
}

// desk is a dashboard that somebody sits at.
type desk struct {
	t *testing.T
	*services
	options Options
	pages   *Dashboard
	cookie  *http.Cookie
	log     bytes.Buffer
}

func newDesk(t *testing.T, s *services, change ...func(*Options)) *desk {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	shown, err := admin.OpenToken(file)
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, services: s}
	d.options = Options{
		Services: admin.Services{Keys: s, Limits: limitsService{services: s}, Pools: poolsService{services: s}, Exchanges: exchangesService{services: s}, Config: configService{services: s}},
		Token:    shown, Keys: func() keyring.Status { return keyring.Status{Keys: len(s.keys), Loaded: time.Unix(0, 0)} },
		Plans: func() []string { return []string{"free"} }, Store: func() Store { return Store{Kind: "memory", Replicas: 1} },
		Metrics: prometheus.NewRegistry(), Version: "v1", Log: zerolog.New(&d.log),
	}
	for _, c := range change {
		c(&d.options)
	}
	if d.pages, err = New(d.options); err != nil {
		t.Fatal(err)
	}
	w := d.ask(http.MethodPost, "/dashboard/login", url.Values{"token": {token}})
	if w.Code != http.StatusSeeOther || len(w.Result().Cookies()) != 1 {
		t.Fatalf("sign in: %d %s", w.Code, w.Body)
	}
	d.cookie = w.Result().Cookies()[0]
	return d
}

func (d *desk) ask(method, path string, form url.Values, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(d.t.Context(), method, path, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if d.cookie != nil {
		r.AddCookie(d.cookie)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	d.pages.ServeHTTP(w, r)
	return w
}

// says fails the test unless a page has that status and says all of it.
func (d *desk) says(path string, status int, texts ...string) string {
	d.t.Helper()
	w := d.ask(http.MethodGet, path, nil)
	if w.Code != status {
		d.t.Errorf("%s: status %d, want %d", path, w.Code, status)
	}
	for _, text := range texts {
		if !strings.Contains(w.Body.String(), text) {
			d.t.Errorf("%s does not say %q: %s", path, text, w.Body)
		}
	}
	return w.Body.String()
}

func TestEmptyPages(t *testing.T) {
	d := newDesk(t, &services{})
	d.says("/dashboard/", http.StatusOK, "No limit has refused a request", "memory", "need JavaScript")
	d.says("/dashboard/keys", http.StatusOK, "There are no client keys, so nobody can call.")
	d.says("/dashboard/requests", http.StatusOK, "No request is in flight on this replica.")
	d.says("/dashboard/limits", http.StatusOK, "No limit has counted anything yet.")
	d.says("/dashboard/limits?q=x", http.StatusOK, "No limit in use is like that.")
	d.says("/dashboard/pools", http.StatusOK, "There are no upstreams")
	d.says("/dashboard/keys/key?id=nobody", http.StatusNotFound, "There is no such key")
	d.says("/dashboard/nothing", http.StatusNotFound, "There is no such page.")
}

func TestPagesOfTroubles(t *testing.T) {
	s := &services{
		keys:      []*adminv1.Key{{Id: "a", State: adminv1.KeyState_KEY_STATE_ACTIVE}, {Id: "b", State: adminv1.KeyState_KEY_STATE_REVOKED, Revoked: timestamppb.New(time.Unix(0, 0))}},
		limitsErr: connect.NewError(connect.CodeFailedPrecondition, errors.New("ask the limit store: away")),
		pools: []*adminv1.Pool{
			{Upstream: "one", Up: false, Status: "down"},
			{Upstream: "two", Up: true, Status: "no_keys", Keys: []*adminv1.PoolKey{{Id: "k", State: "quarantined", Why: "rejected"}}},
			{Upstream: "three", Up: false, Status: "down", Stale: "keys.txt:3: weight: want", Keys: []*adminv1.PoolKey{
				{Id: "k", State: "healthy", Successes: 1, SuccessRate: 0.25, Failures: map[string]int64{"connect": 3}, Aborted: 2}, {Id: "l", State: "healthy", SuccessRate: 1, Aborted: 2},
			}},
		},
	}
	d := newDesk(t, s, func(o *Options) {
		o.Store = func() Store { return Store{Kind: "redis", Away: true, For: 90 * time.Second, Owed: 2, Replicas: 3} }
		o.Keys = func() keyring.Status {
			return keyring.Status{Keys: 2, Err: &keyring.VanishedError{Files: []string{"keys.yaml"}, Gone: 5, Of: 6}}
		}
		o.Loaded = func() (time.Time, error) { return time.Unix(0, 0), errors.New("weir.yaml:3:1: unknown field") }
	})
	d.says("/dashboard/", http.StatusOK, "away for 1 min 30 s", "key files have a mistake", "weir.yaml was not taken", "Upstream one does not answer", "Upstream two has no key", "newest key file of the upstream three has a mistake", "3 replicas", "owed 2 exchanges")
	d.says("/dashboard/keys", http.StatusOK, "5 of the 6 keys in use are gone", "cannot be told: Ask the limit store: away", `href="/dashboard/keys/key?id=a"`)
	if s.asked != 1 {
		t.Errorf("the store that is away was asked %d times for one page", s.asked)
	}
	d.says("/dashboard/keys/key?id=a", http.StatusOK, "Where the limits stand cannot be told", "Revoke for good")
	if text := d.says("/dashboard/keys/key?id=b", http.StatusOK, "was revoked on 1970-01-01"); strings.Contains(text, "Revoke for good") {
		t.Error("a revoked key can be revoked")
	}
	text := d.says("/dashboard/pools", http.StatusOK, "keys.txt:3: weight: want", `>upstream down<`, ">25 %<", "3 connect", "2 aborted by clients", "no usable key")
	if strings.Contains(text, "100 %") || strings.Contains(text, ">healthy<") {
		t.Error("keys of an upstream that is down, with no good answer, are shown as good")
	}
	d.says("/dashboard/limits", http.StatusServiceUnavailable, "Ask the limit store: away")
	d.says("/dashboard/config", http.StatusOK, "weir.yaml:3:1: unknown field", "Take the key files although most keys are gone", "1970-01-01 00:00 UTC", "context: 131000")
}

func TestLimitsAreAskedForOnce(t *testing.T) {
	s := &services{limits: []*adminv1.LimitUsage{{Limit: "rpm", Scope: "key a", Key: "a", Unit: "requests", Window: "1m0s", Used: 1, Max: 10}, {Limit: "site", Unit: "concurrency", Used: 9, Max: 10}}}
	d := newDesk(t, s)
	for range 5 {
		text := d.says("/dashboard/limits", http.StatusOK, "2 limits in use", "requests in 1 min", "requests at once", "the whole site", `width="90.0"`)
		if strings.Index(text, "the whole site") > strings.Index(text, "key a") {
			t.Error("the fullest is not the first")
		}
		if strings.Count(text, `action="/dashboard/limits/reset"`) != 1 {
			t.Error("only the limit that is one key's can be reset")
		}
	}
	if s.asked != 1 {
		t.Errorf("the store was asked %d times", s.asked)
	}
}

func TestPartOfAPage(t *testing.T) {
	d := newDesk(t, &services{keys: []*adminv1.Key{{Id: "a"}}})
	w := d.ask(http.MethodGet, "/dashboard/keys?q=a&told=x", nil, "HX-Request", "true")
	if text := w.Body.String(); w.Code != http.StatusOK || strings.Contains(text, "<html") || !strings.Contains(text, `id="key-a"`) {
		t.Errorf("status %d: %s", w.Code, text)
	}
	if text := d.says("/dashboard/keys?q=a&told=x", http.StatusOK); !strings.Contains(text, `hx-get="/dashboard/keys?q=a"`) {
		t.Errorf("what is asked for again: %s", text)
	}
	id := d.pages.sessions.tell(d.cookie.Value, told{Text: "hello"})
	d.ask(http.MethodGet, "/dashboard/keys?told="+id, nil, "HX-Request", "true")
	d.says("/dashboard/keys?told="+id, http.StatusOK, "hello")
}

func TestReloadTells(t *testing.T) {
	d := newDesk(t, &services{reload: &adminv1.ReloadConfigResponse{Keys: 2, ConfigError: "weir.yaml:1:1: no", NeedRestart: []string{"listen"}, UpstreamKeysError: "keys.txt: gone"}})
	w := d.ask(http.MethodPost, "/dashboard/config/reload", url.Values{})
	d.says(w.Header().Get("Location"), http.StatusOK, "2 client keys in force", "weir.yaml was not taken", "keys.txt: gone", "starts the next time: listen", `class="told bad"`)
}

func TestFormsAreBounded(t *testing.T) {
	d := newDesk(t, &services{})
	if w := d.ask(http.MethodPost, "/dashboard/keys/new", url.Values{"label": {strings.Repeat("x", maxForm+1)}}); w.Code != http.StatusBadRequest {
		t.Errorf("status %d", w.Code)
	}
	if w := d.ask(http.MethodPost, "/dashboard/login", url.Values{"token": {strings.Repeat("x", maxForm+1)}}); w.Code != http.StatusBadRequest {
		t.Errorf("login: status %d", w.Code)
	}
}

func TestAssets(t *testing.T) {
	d := newDesk(t, &services{})
	d.cookie = nil
	for path, want := range map[string]string{
		"/dashboard/assets/htmx.min.js":       "htmx",
		"/dashboard/assets/uPlot.iife.min.js": "uPlot",
		"/dashboard/assets/uPlot.min.css":     ".uplot",
		"/dashboard/assets/dashboard.css":     "prefers-color-scheme",
		"/dashboard/assets/charts.js":         "/dashboard/series",
		"/dashboard/assets/LICENSES.txt":      "Zero-Clause BSD",
	} {
		text := d.says(path, http.StatusOK, want)
		if strings.Contains(text, "sourceMappingURL") {
			t.Errorf("%s names a file that there is not", path)
		}
	}
	d.says("/dashboard/assets/nothing.js", http.StatusNotFound)
	w := d.ask(http.MethodGet, "/", nil)
	if w.Code != http.StatusFound || w.Header().Get("Location") != "/dashboard/" {
		t.Errorf("/: status %d to %q", w.Code, w.Header().Get("Location"))
	}
}

// TestNamesAreText has names that would be markup, everywhere that a name stands.
func TestNamesAreText(t *testing.T) {
	const evil = `"><script>alert(1)</script>`
	d := newDesk(t, &services{
		keys:      []*adminv1.Key{{Id: evil, Label: evil, User: evil, Team: evil, Plan: evil, Metadata: map[string]string{evil: evil}}},
		limits:    []*adminv1.LimitUsage{{Limit: evil, Scope: evil, Unit: evil, Key: evil, Window: evil, Used: 1, Max: 2, OnStoreFailure: evil}},
		pools:     []*adminv1.Pool{{Upstream: evil, Up: true, Keys: []*adminv1.PoolKey{{Id: evil, Label: evil, Last4: evil, State: evil, Why: evil, Failures: map[string]int64{evil: 1}}}}},
		exchanges: []*adminv1.Exchange{{Id: evil, RequestId: evil, Key: evil, User: evil, Model: evil, Upstream: evil, Endpoint: evil}},
	})
	for _, path := range []string{"/", "/keys", "/keys?q=" + url.QueryEscape(evil), "/keys/key?id=" + url.QueryEscape(evil), "/limits?q=" + url.QueryEscape(evil), "/pools", "/requests?key=" + url.QueryEscape(evil)} {
		text := d.says("/dashboard"+path, http.StatusOK)
		if strings.Contains(text, "<script>") || !strings.Contains(text, "alert") {
			t.Errorf("%s: %s", path, text)
		}
	}
	if w := d.ask(http.MethodGet, "/dashboard/login?next="+url.QueryEscape("/dashboard/"+evil), nil, "Cookie", "none=1"); strings.Contains(w.Body.String(), "<script>") {
		t.Errorf("login: %s", w.Body)
	}
}
