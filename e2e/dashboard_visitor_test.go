package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"

	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/ratelimit/redistest"
)

// visitor is a client of the dashboard that is not a browser.
type visitor struct {
	t *testing.T
	*http.Client
	base string
}

func (r *rig) visitor() *visitor {
	r.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return &visitor{r.t, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, r.Admin}
}

// visit sends a request, with headers as pairs.
func (v *visitor) visit(method, path string, form url.Values, headers ...string) reply {
	v.t.Helper()
	req, err := http.NewRequestWithContext(v.t.Context(), method, v.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := v.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := readAll(resp)
	if err != nil {
		v.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, text}
}

func (v *visitor) signIn() *http.Cookie {
	v.t.Helper()
	got := v.visit(http.MethodPost, "/dashboard/login", url.Values{"token": {adminToken}})
	if got.status != http.StatusSeeOther {
		v.t.Fatalf("sign in: status %d, %s", got.status, got.body)
	}
	c, err := http.ParseSetCookie(got.header.Get("Set-Cookie"))
	if err != nil {
		v.t.Fatal(err)
	}
	return c
}

var dashboardPages = []string{"/dashboard/", "/dashboard/requests", "/dashboard/keys", "/dashboard/keys/new", "/dashboard/keys/key?id=good", "/dashboard/limits", "/dashboard/pools", "/dashboard/config", "/dashboard/series"}

// TestDashboardIsGuarded against those without the token, and against other sites.
func TestDashboardIsGuarded(t *testing.T) {
	t.Parallel()
	r := shown(t, fixture{})
	v := r.visitor()
	changes := []string{"/dashboard/keys/new", "/dashboard/keys/revoke", "/dashboard/keys/rotate", "/dashboard/keys/disable", "/dashboard/keys/enable", "/dashboard/pools/reset", "/dashboard/pools/disable", "/dashboard/pools/enable", "/dashboard/requests/cancel", "/dashboard/limits/reset", "/dashboard/config/reload"}
	form := url.Values{"id": {"good"}, "key": {"good"}, "grace": {"0s"}, "user": {"mallory"}}
	refused := func(who string) {
		t.Helper()
		for _, page := range dashboardPages {
			got := v.visit(http.MethodGet, page, nil)
			if login := strings.HasPrefix(got.header.Get("Location"), "/dashboard/login"); !login && got.status != http.StatusUnauthorized || strings.Contains(got.body, "ann") {
				t.Errorf("%s, %s: status %d, %s", who, page, got.status, got.body)
			}
			if got := v.visit(http.MethodGet, page, nil, "HX-Request", "true"); got.status != http.StatusUnauthorized {
				t.Errorf("%s, a part of %s: status %d", who, page, got.status)
			}
		}
		for _, change := range changes {
			if got := v.visit(http.MethodPost, change, form); got.status != http.StatusSeeOther || got.header.Get("Location") != "/dashboard/login" {
				t.Errorf("%s, %s: status %d", who, change, got.status)
			}
		}
	}
	refused("nobody")
	cookie := v.signIn()
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/dashboard/" || strings.Contains(cookie.Value, adminToken) || len(cookie.Value) < 26 {
		t.Errorf("the cookie: %v", cookie)
	}
	for _, page := range dashboardPages {
		got := v.visit(http.MethodGet, page, nil)
		if got.status != http.StatusOK {
			t.Errorf("%s: status %d", page, got.status)
		}
		policy := got.header.Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v", page, got.header)
		}
	}
	// Another site's page: by a browser that says so, and by one that tells the origin only.
	for _, headers := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"}} {
		for _, change := range append(changes, "/dashboard/login", "/dashboard/logout") {
			if got := v.visit(http.MethodPost, change, form, headers...); got.status != http.StatusForbidden {
				t.Errorf("%s with %q: status %d", change, headers, got.status)
			}
		}
	}
	if got := r.post(chat()); got.status != http.StatusOK {
		t.Errorf("another site has changed key good: status %d", got.status)
	}
	if strings.Contains(r.Log(), `"audit":"key`) {
		t.Error("another site has changed a key")
	}
	// The session is a name for the dashboard alone, and no token.
	if status, _ := r.asked("/weir.admin.v1.KeysService/List", "{}", cookie.Value); status != http.StatusUnauthorized {
		t.Errorf("the cookie as a token: status %d", status)
	}
	if got := v.visit(http.MethodPost, "/weir.admin.v1.KeysService/List", nil, "Content-Type", "application/json"); got.status != http.StatusUnauthorized {
		t.Errorf("the cookie at the admin API: status %d", got.status)
	}
	if got := v.visit(http.MethodPost, "/dashboard/logout", url.Values{}); got.status != http.StatusSeeOther {
		t.Errorf("logout: status %d", got.status)
	}
	u, err := url.Parse(v.base + "/dashboard/")
	if err != nil {
		t.Fatal(err)
	}
	v.Jar.SetCookies(u, []*http.Cookie{{Name: cookie.Name, Value: cookie.Value, Path: "/dashboard/"}})
	refused("somebody with the cookie of a session that was ended")
	for range 30 {
		v.visit(http.MethodPost, "/dashboard/login", url.Values{"token": {"guess " + fmt.Sprint(time.Now().UnixNano())}})
	}
	if got := v.visit(http.MethodPost, "/dashboard/login", url.Values{"token": {"one more"}}); got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") == "" || !strings.Contains(got.body, "Too many wrong tokens") {
		t.Errorf("after many guesses: status %d", got.status)
	}
	if status, _ := r.asked("/pools/reset", "", "another one"); status != http.StatusTooManyRequests {
		t.Errorf("the admin API after guesses at the dashboard: status %d", status)
	}
	v.signIn() // others at the operator's address do not keep him out
	if got := r.do(http.MethodGet, "/dashboard/", "", "Authorization", ""); got.status != http.StatusNotFound {
		t.Errorf("from the public listener: status %d", got.status)
	}
}

// TestDashboardShowsNoSecret in any page.
func TestDashboardShowsNoSecret(t *testing.T) {
	t.Parallel()
	r := shown(t, fixture{})
	v := r.visitor()
	v.signIn()
	_, end := r.stream(t.Context(), goodKey)
	for range 4 {
		r.post(ask)
	}
	looked := 0
	for _, page := range dashboardPages {
		for _, headers := range [][]string{nil, {"HX-Request", "true"}} {
			got := v.visit(http.MethodGet, page, nil, headers...)
			looked += len(got.body)
			for _, secret := range append([]string{fewKey, poolKey(0), poolKey(2), keyring.Hash(goodKey)}, secrets...) {
				if strings.Contains(got.body, secret) {
					t.Errorf("%s shows %s", page, secret)
				}
			}
		}
	}
	if looked < 20_000 {
		t.Errorf("all pages have %d bytes", looked)
	}
	// A mistake beside a secret.
	writeFile(t, r.Dir+"/weir.yaml", "listen: 127.0.0.1:0\nupstreams:\n  - {name: sim, url: 7, key: \""+upstreamSecret+"\", keyy: 1}\n")
	r.eventually("the mistake is noticed", func() bool {
		return strings.Contains(v.visit(http.MethodGet, "/dashboard/", nil).body, "The newest weir.yaml was not taken")
	})
	got := v.visit(http.MethodGet, "/dashboard/config", nil)
	if !strings.Contains(got.body, "weir.yaml:3:") || strings.Contains(got.body, upstreamSecret) {
		t.Errorf("the mistake: %s", got.body)
	}
	v.visit(http.MethodPost, "/dashboard/requests/cancel", url.Values{"id": {r.running()}})
	<-end
}

// running is the id of the one exchange that runs.
func (r *rig) running() string {
	r.t.Helper()
	_, list := r.asked("/weir.admin.v1.ExchangesService/List", "{}", adminToken)
	all, _ := list["exchanges"].([]any)
	if len(all) != 1 {
		r.t.Fatalf("in flight: %v", list)
	}
	id, _ := all[0].(map[string]any)["id"].(string)
	return id
}

// TestDashboardWithManyKeys pages through ten thousand.
func TestDashboardWithManyKeys(t *testing.T) {
	t.Parallel()
	const many = 10_000
	var keys strings.Builder
	for i := range many {
		fmt.Fprintf(&keys, "  - {id: key-%05d, user: user-%d, hash: \"sha256:%064x\"}\n", i, i%100, i+1)
	}
	r := shown(t, fixture{keys: keys.String()})
	v := r.visitor()
	v.signIn()
	begin := time.Now()
	first := v.visit(http.MethodGet, "/dashboard/keys", nil)
	t.Logf("the first page took %v and has %d bytes", time.Since(begin), len(first.body))
	rows := func(body string) int { return strings.Count(body, `href="/dashboard/keys/key?id=`) }
	if n := rows(first.body); first.status != http.StatusOK || n != 25 || len(first.body) > 200_000 || !strings.Contains(first.body, "Page 1 of 401") {
		t.Errorf("the first page: status %d, %d keys, %d bytes", first.status, n, len(first.body))
	}
	last := v.visit(http.MethodGet, "/dashboard/keys?page=401", nil)
	if n := rows(last.body); n != 3 || !strings.Contains(last.body, "other") {
		t.Errorf("the last page has %d keys", n)
	}
	found := v.visit(http.MethodGet, "/dashboard/keys?q=user-7&page=2", nil)
	if n := rows(found.body); n != 25 || !strings.Contains(found.body, "q=user-7") || strings.Contains(found.body, ">user-6<") {
		t.Errorf("the second page of user-7: %d keys", n)
	}
	begin = time.Now()
	limits := v.visit(http.MethodGet, "/dashboard/limits", nil)
	t.Logf("the limits took %v", time.Since(begin))
	if limits.status != http.StatusOK || len(limits.body) > 200_000 {
		t.Errorf("limits: status %d, %d bytes", limits.status, len(limits.body))
	}
	b := browse(t, r.Admin)
	b.open("/dashboard/keys?page=7")
	b.signIn(adminToken)
	b.shows("Page 7 of 401", "key-00150")
	b.inspect("keys-many")
	b.click("#following")
	b.shows("Page 8 of 401", "key-00175")
	b.clean("many keys")
}

// TestDashboardWithoutScripts is read and used where there is no JavaScript.
func TestDashboardWithoutScripts(t *testing.T) {
	t.Parallel()
	r := shown(t, fixture{})
	b := browse(t, r.Admin)
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.open("/dashboard/pools")
	b.signIn(adminToken)
	b.shows("Pools", "k0", "Refresh")
	if path := eval[string](b, "location.pathname"); path != "/dashboard/pools" {
		t.Errorf("after signing in: %s", path)
	}
	b.click("#disable-" + r.hosted()[2].ID)
	b.shows("out of use, until it is enabled")
	b.click(".foot a")
	b.shows("disabled")
	b.open("/dashboard/keys/key?id=few")
	b.click("#revoke")
	b.click("details[open] button")
	b.shows("is revoked.")
	if got := r.post(chat(), "Authorization", "Bearer "+fewKey); got.status != http.StatusUnauthorized {
		t.Errorf("revoked: status %d", got.status)
	}
	b.open("/dashboard/")
	b.shows("need JavaScript")
	b.clean("without scripts")
}

// TestDashboardInHardTimes says so when the token is another one, and when weir is gone.
func TestDashboardInHardTimes(t *testing.T) {
	t.Parallel()
	r := shown(t, fixture{})
	b := browse(t, r.Admin)
	b.open("/dashboard/requests?key=good")
	b.signIn(adminToken)
	b.shows("No request is in flight on this replica with key good.")
	b.clean("before")
	_, file, _ := strings.Cut(weirYAMLOf(t, r), `token_file: "`)
	file, _, _ = strings.Cut(file, `"`)
	writeFile(t, file, adminToken+"-another\n")
	if got := r.overOpsPost("/admin/reload-keys"); got != http.StatusOK {
		t.Fatalf("reload: status %d", got)
	}
	// The page that is open goes there by itself.
	b.shows("Admin token")
	b.signIn(adminToken)
	b.shows("This is not the admin token.")
	b.signIn(adminToken + "-another")
	b.shows("No request is in flight on this replica with key good.")
	b.troubles()
	eval[bool](b, `new Promise((tell) => document.addEventListener("htmx:afterOnLoad", () => tell(true), { once: true }))`)
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	b.shows("weir does not answer")
}

// TestDashboardWhileRedisIsAway says so, and is as before when it is back.
func TestDashboardWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	r := shown(t, fixture{redis: redis.URL()})
	b := browse(t, r.Admin)
	b.open("/dashboard/limits")
	b.signIn(adminToken)
	if got := r.post(chat()); got.status != http.StatusOK {
		t.Fatalf("status %d", got.status)
	}
	b.shows("key good", "1 of 1")
	b.clean("before")
	redis.Kill()
	b.shows("Ask the limit store") // by itself
	for range 10 {                 // after some failures it is not asked any more
		r.post(chat())
	}
	if offline := eval[bool](b, `!document.getElementById("offline").hidden`); offline {
		t.Error("weir is said not to answer")
	}
	b.open("/dashboard/")
	b.shows("The limit store has been away for", "redis", "away")
	b.troubles() // the browser tells of the status 503
	b.inspect("overview-away")
	b.open("/dashboard/keys")
	b.shows("cannot be told: Ask the limit store", "few")
	b.inspect("keys-away")
	b.open("/dashboard/limits")
	b.shows("That did not work")
	redis.Restart(t)
	b.open("/dashboard/")
	b.shows("redis\tok")
	b.troubles()
}

// TestDashboardCanBeLeftOut sees that nothing of it is there then.
func TestDashboardCanBeLeftOut(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{extra: strings.Replace(withAdmin(t), "admin: {", "admin: {dashboard: false, ", 1)})
	v := r.visitor()
	for _, path := range []string{"/", "/dashboard/", "/dashboard/login", "/dashboard/assets/dashboard.css"} {
		if got := v.visit(http.MethodGet, path, nil); got.status != http.StatusUnauthorized {
			t.Errorf("%s: status %d", path, got.status)
		}
	}
	if strings.Contains(r.Stdout(), "dashboard") {
		t.Error("it is announced")
	}
}

func weirYAMLOf(t *testing.T, r *rig) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(r.Dir, "weir.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// overOpsPost asks for a change over the owner's socket, and answers the status.
func (r *rig) overOpsPost(path string) int {
	r.t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", filepath.Join(r.runDir, "ops.sock"))
		},
	}}
	defer client.CloseIdleConnections()
	resp, err := client.Post("http://site"+path, "", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}
