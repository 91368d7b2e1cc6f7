package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/weir-gateway/weir/admin"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/ratelimit/redistest"
	"github.com/weir-gateway/weir/upstream/pool"
)

const fewKey = "sk-test-few-0123456789abcdef"

// shown is a site that has everything that the dashboard shows: a pool whose first key
// is refused and whose second is told to wait, plans, and keys with limits.
func shown(t *testing.T, more fixture) *rig {
	t.Helper()
	more.extra = withAdmin(t) + "plans: {free: {limits: [{name: rpm, per: [key], requests: 2/h}]}}\n" + more.extra
	more.limits = "  - {name: rpm, per: [key], requests: 1000/h}\n  - {name: tpm, per: [key], tokens: 500000/h}\n" +
		"  - {name: slots, per: [key], concurrency: 4}\n  - {name: site, concurrency: 500}\n"
	more.keys += fmt.Sprintf("  - {id: few, label: laptop, user: carol, team: lab, plan: free, hash: %q}\n", keyring.Hash(fewKey))
	more.metering = "streamed"
	return pooled(t, more, "      retry: {keys: 3, tries: 3}\n", always("fail=status:401"), always("fail=status:429,retry_after=600"), fine)
}

// signIn shows the token to the dashboard.
func (b *browser) signIn(token string) {
	b.t.Helper()
	b.fill("#token", token)
	b.click(".narrow button")
}

// hosted are the keys of the pool, as the admin API tells of them.
func (r *rig) hosted() []pool.KeyStatus {
	r.t.Helper()
	var answer admin.Pools
	if err := json.Unmarshal([]byte(r.overSocket("ops.sock", "/pools")), &answer); err != nil {
		r.t.Fatal(err)
	}
	for _, p := range answer.Pools {
		if p.Upstream == "pool" {
			return p.Keys
		}
	}
	r.t.Fatalf("there is no pool: %v", answer)
	return nil
}

// stream begins an answer that does not end by itself, and waits for its first part.
// The channel is closed at its end, which must not look like that of a whole answer.
func (r *rig) stream(ctx context.Context, key string) (requestID string, ended <-chan struct{}) {
	r.t.Helper()
	begun, done := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(done)
		resp, err := r.send(ctx, http.MethodPost, "/v1/chat/completions", chat(`"stream":true`), "Authorization", "Bearer "+key, "X-Simulate", "tokens=1000000,pace=50ms")
		if err != nil {
			r.t.Error(err)
			return
		}
		defer resp.Body.Close()
		body := bufio.NewReader(resp.Body)
		if _, err := body.ReadString('\n'); err != nil || resp.StatusCode != http.StatusOK {
			r.t.Errorf("a stream: status %d, %v", resp.StatusCode, err)
		}
		begun <- resp.Header.Get("X-Request-Id")
		if _, err := io.Copy(io.Discard, body); err == nil {
			r.t.Error("the client takes its stream for complete")
		}
	}()
	select {
	case requestID = <-begun:
	case <-done:
		r.t.Fatal("a stream did not begin")
	}
	return requestID, done
}

// TestDashboardInABrowser walks through all pages of a site with traffic, and compares
// what they say to what the admin API and the simulator do.
func TestDashboardInABrowser(t *testing.T) {
	t.Parallel()
	r := shown(t, fixture{})
	b := browse(t, r.Admin)

	b.open("/")
	b.shows("Admin token")
	b.inspect("login")
	b.signIn("not the token")
	b.shows("This is not the admin token.")
	if got := b.troubles(); len(got) != 1 || !strings.Contains(got[0], "401") {
		t.Errorf("troubles at a wrong token: %q", got)
	}
	b.inspect("login-wrong")
	b.signIn(adminToken)
	b.shows("Overview", "In flight", "No limit has refused a request")
	b.inspect("overview-empty")
	b.open("/dashboard/requests")
	b.shows("No request is in flight")
	b.inspect("requests-empty")

	// Traffic.
	for range 6 {
		if got := r.post(ask); got.status != http.StatusOK {
			t.Fatalf("status %d, %s", got.status, got.body)
		}
	}
	for i, want := range []int{200, 200, 429, 429, 429} {
		if got := r.post(chat(), "Authorization", "Bearer "+fewKey); got.status != want {
			t.Fatalf("request %d of few: status %d, want %d", i, got.status, want)
		}
	}
	id, end := r.stream(t.Context(), goodKey)
	other, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, left := r.stream(other, otherKey)

	step := func(name string, do func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			defer func(whole *testing.T) { b.t, r.t = whole, whole }(b.t)
			b.t, r.t = t, t
			do(t)
		})
	}
	step("overview", func(t *testing.T) {
		b.open("/dashboard/")
		b.shows("rpm", "1 of 3 keys usable", "memory")
		rows := eval[string](b, `[...document.querySelectorAll("section.card")].find((s) => s.innerText.includes("Refused by limits")).innerText`)
		if !regexp.MustCompile(`rpm\s+3\b`).MatchString(rows) {
			b.shows("rpm\t3")
		}
		if got := eval[string](b, `document.querySelector(".tiles dd").innerText`); got != "2" {
			t.Errorf("in flight: %s", got)
		}
		b.waits("[data-chart=requests] canvas")
		// By the samples, each of which is a rate since the one before it.
		var got struct{ Answered, Refused, Output float64 }
		r.eventually("the charts show all requests", func() bool {
			got = eval[struct{ Answered, Refused, Output float64 }](b, `(async () => {
				const s = await (await fetch("/dashboard/series")).json();
				const sum = (name) => s[name].reduce((all, rate, i) => all + (i ? rate * (s.time[i] - s.time[i - 1]) : 0), 0);
				return { Answered: sum("answered"), Refused: sum("refused"), Output: sum("output") };
			})()`)
			return got.Answered > 7.99 && got.Refused > 2.99
		})
		// Those of the six and of the two; the streams are not settled.
		if got.Answered > 8.01 || got.Refused > 3.01 || got.Output < 6*5+2*16-.1 || got.Output > 6*5+2*16+.1 {
			t.Errorf("the charts: %+v", got)
		}
		b.inspect("overview")
	})

	step("pools", func(t *testing.T) {
		b.open("/dashboard/pools")
		b.shows("k0", "quarantined", "rejected", "k1", "cooling", "rate limited", "…0000", "…0002")
		b.inspect("pools")
		row := func(n int) string {
			return eval[string](b, fmt.Sprintf(`document.querySelectorAll("tbody tr")[%d].innerText`, n))
		}
		keys := r.hosted()
		for i, k := range keys {
			for _, want := range []string{k.Label, k.State.String(), "…" + k.Last4, fmt.Sprint(k.Requests)} {
				if !strings.Contains(row(i), want) {
					t.Errorf("key %d has no %q: %s", i, want, row(i))
				}
			}
		}
		b.click("#reset-" + keys[1].ID)
		b.shows("1 key of pool reset")
		if got := r.hosted(); got[1].State.String() != "healthy" || got[0].State.String() != "quarantined" {
			t.Errorf("after the reset: %v, %v", got[0].State, got[1].State)
		}
		b.click("#disable-" + keys[2].ID)
		b.shows("out of use, until it is enabled")
		if got := r.hosted()[2].State.String(); got != "disabled" {
			t.Errorf("after disabling it: %s", got)
		}
		b.click("#enable-" + keys[2].ID)
		b.shows("in use again")
		if got := r.hosted()[2].State.String(); got != "healthy" {
			t.Errorf("after enabling it: %s", got)
		}
		b.clean("pools")
	})

	step("in flight", func(t *testing.T) {
		b.open("/dashboard/requests?key=good")
		b.shows(id, "ann", "answering", "stream", "sim")
		if n := eval[int](b, `document.querySelectorAll("tbody tr").length`); n != 1 {
			t.Errorf("%d requests of key good", n)
		}
		b.open("/dashboard/requests")
		b.shows(id, "bob")
		b.click("tbody tr:first-child summary")
		b.inspect("requests")
		if !eval[bool](b, `new Promise((tell) => document.addEventListener("htmx:beforeRequest", (e) => tell(e.defaultPrevented), { once: true }))`) {
			t.Error("the page is replaced under the operator's hand")
		}
		b.click("details[open] button")
		b.shows("The request was cancelled.")
		select {
		case <-end:
		case <-time.After(5 * time.Second):
			t.Fatal("the stream goes on")
		}
		if text := b.text(); strings.Contains(text, id) {
			t.Errorf("it is listed still: %s", text)
		}
		// The other one ends by itself, and the page notices.
		cancel()
		<-left
		b.shows("No request is in flight")
		b.clean("in flight")
	})

	step("keys", func(t *testing.T) {
		b.open("/dashboard/keys")
		b.shows("good", "other", "few", "laptop", "carol", "lab", "free")
		few := eval[string](b, `document.getElementById("key-few").closest("tr").innerText`)
		for _, want := range []string{"2 of 2", "tpm", "0 of 4"} {
			if !strings.Contains(few, want) {
				t.Errorf("key few has no %q: %s", want, few)
			}
		}
		if class := eval[string](b, `document.getElementById("key-few").closest("tr").querySelector(".bar").getAttribute("class")`); class != "bar full" {
			t.Errorf("the bar of a full limit: %s", class)
		}
		b.inspect("keys")
		b.fill("#q", "CAROL")
		b.click(".search button")
		b.waits("#key-few")
		b.shows("1 key of 3")
		b.fill("#q", "nobody")
		b.click(".search button")
		b.shows("None of 3 keys is like that.")
		b.inspect("keys-none")
	})

	step("a key's life", func(t *testing.T) { dashboardKey(t, r, b) })

	step("limits", func(t *testing.T) {
		b.open("/dashboard/limits?q=few")
		b.shows("rpm", "key few", "2 of 2", "Reset")
		b.inspect("limits")
		b.click(`[aria-label="Reset rpm of key few"]`)
		b.shows("1 limit of key few counted from zero again.")
		if got := r.post(chat(), "Authorization", "Bearer "+fewKey); got.status != http.StatusOK {
			t.Errorf("after the reset: status %d", got.status)
		}
		b.clean("limits")
	})

	step("config", func(*testing.T) {
		b.open("/dashboard/config")
		b.shows("weir.yaml", "sk-…6789", "max_choices")
		b.click("#reload")
		b.shows("Read again:", "client keys in force.")
		b.inspect("config")
		b.clean("config")
	})

	step("sign out", func(*testing.T) {
		b.click(".out button")
		b.waits("#token")
		b.open("/dashboard/keys")
		b.shows("Admin token")
		b.clean("sign out")
	})
	for _, want := range []string{"signed in", "signed out", "refused", "exchange cancelled", "upstream keys reset", "key created", "key revoked", "limits reset", "keys reloaded"} {
		if !strings.Contains(r.Log(), `"audit":"`+want+`","who":"dashboard from 127.0.0.1:`) {
			t.Errorf("no audit line %q", want)
		}
	}
}

// dashboardKey makes a key, uses it, gives it another secret, and revokes it.
func dashboardKey(t *testing.T, r *rig, b *browser) {
	b.open("/dashboard/keys/new")
	b.inspect("newkey")
	b.fill("#user", "eve")
	b.fill("#cidrs", "nonsense")
	b.click(".narrow button")
	b.shows("address range")
	if got := b.troubles(); len(got) != 1 || !strings.Contains(got[0], "422") {
		t.Errorf("troubles at a bad form: %q", got)
	}
	if user := eval[string](b, `document.getElementById("user").value`); user != "eve" {
		t.Errorf("the form was emptied: %q", user)
	}
	b.fill("#cidrs", "")
	b.fill("#label", "<b>&\"bold")
	b.fill("#plan", "free")
	b.click(".narrow button")
	b.waits("#secret")
	secret := func() string { return eval[string](b, `document.getElementById("secret")?.innerText ?? ""`) }
	first := secret()
	b.shows("Its secret is shown this once", `<b>&"bold`, "eve", "free")
	b.inspect("key")
	status := func(secret string) int { return r.post(chat(), "Authorization", "Bearer "+secret).status }
	if got := status(first); got != http.StatusOK {
		t.Fatalf("the new key: status %d", got)
	}
	perform(b, chromedp.Reload())
	b.waits("#rotate")
	if html := eval[string](b, `document.documentElement.outerHTML`); strings.Contains(html, first) {
		t.Error("the secret is shown twice")
	}
	b.click("#rotate")
	b.fill("#grace", "0s")
	b.click("details[open] button")
	b.waits("#secret")
	second := secret()
	if a, b := status(first), status(second); a != http.StatusUnauthorized || b != http.StatusOK {
		t.Errorf("after the rotation: status %d of the old secret, %d of the new", a, b)
	}
	b.click("#disable")
	b.click("details[open] button")
	b.shows("is disabled.")
	if got := status(second); got != http.StatusUnauthorized {
		t.Errorf("disabled: status %d", got)
	}
	b.click("#enable")
	b.shows("is enabled.")
	if got := status(second); got != http.StatusTooManyRequests { // the two of its plan are used
		t.Errorf("enabled: status %d", got)
	}
	b.click("#revoke")
	b.click("details[open] button")
	b.shows("is revoked.", "for good. Make another")
	if got := status(second); got != http.StatusUnauthorized {
		t.Errorf("revoked: status %d", got)
	}
	if log := r.Log(); strings.Contains(log, first) || strings.Contains(log, second) {
		t.Error("the log shows the secret")
	}
	b.clean("a key's life")
}

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
	if got := v.visit(http.MethodPost, "/dashboard/login", url.Values{"token": {adminToken}}); got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") == "" || !strings.Contains(got.body, "Too many wrong tokens") {
		t.Errorf("after many guesses: status %d", got.status)
	}
	if status, _ := r.asked("/pools/reset", "", adminToken); status != http.StatusTooManyRequests {
		t.Errorf("the admin API after guesses at the dashboard: status %d", status)
	}
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
