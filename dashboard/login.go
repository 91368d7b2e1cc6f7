package dashboard

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/weir-gateway/weir/admin"
)

// loginForm is the page that asks for the token.
type loginForm struct {
	Next  string // where to go then
	Error string
}

func (d *Dashboard) showLogin(w http.ResponseWriter, r *http.Request) {
	next := within(r.URL.Query().Get("next"))
	if d.sessions.has(nameIn(r)) {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	d.show(w, r, &view{Template: "login", Title: "Sign in", Body: loginForm{Next: next}})
}

// login begins a session for who shows the token.
func (d *Dashboard) login(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, "The form could not be read.", http.StatusBadRequest)
		return
	}
	form := loginForm{Next: within(r.PostForm.Get("next"))}
	ok, wait := d.opts.Token.Check(r.RemoteAddr, strings.TrimSpace(r.PostForm.Get("token")))
	if ok {
		admin.Audit(operator(r), d.opts.Log, "signed in").Info().Msg("an operator opened the dashboard")
		setCookie(w, r, d.sessions.begin())
		http.Redirect(w, r, form.Next, http.StatusSeeOther)
		return
	}
	admin.Audit(operator(r), d.opts.Log, "refused").Warn().Msg("somebody asked for the dashboard without the token")
	v := &view{Template: "login", Title: "Sign in", Status: http.StatusUnauthorized}
	form.Error = "This is not the admin token."
	if wait > 0 {
		v.Status = http.StatusTooManyRequests
		form.Error = fmt.Sprintf("Too many wrong tokens came from your address. Try again in %d seconds.", admin.RetryAfter(w, wait))
	}
	v.Body = form
	d.show(w, r, v)
}

// logout ends a session.
func (d *Dashboard) logout(w http.ResponseWriter, r *http.Request) {
	if name := nameIn(r); d.sessions.has(name) {
		d.sessions.end(name)
		admin.Audit(operator(r), d.opts.Log, "signed out").Info().Msg("an operator left the dashboard")
	}
	setCookie(w, r, "")
	http.Redirect(w, r, root+"/login", http.StatusSeeOther)
}

// within is an address of a page of this handler; of the first one for all else, so
// that nobody is led elsewhere after he has signed in.
func within(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(u.Path, root+"/") || strings.ContainsAny(next, "\\\r\n\t") || strings.Contains(u.Path, "..") {
		return root + "/"
	}
	return u.RequestURI()
}
