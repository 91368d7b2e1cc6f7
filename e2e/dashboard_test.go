package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/weir-gateway/weir/admin"
	"github.com/weir-gateway/weir/keyring"
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
		b.shows(id, "ann", "streaming", "stream", "sim")
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
