package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"connectrpc.com/connect"

	"github.com/weir-gateway/weir/admin"
)

// page says what to show. An error is shown in its place.
type page func(r *http.Request) (*view, error)

// change does what a form asks for, as the operator of the request's context. It
// answers where to go on, and what is to be told there. An error is told on the page
// that the form stands on.
type change func(r *http.Request) (to string, t told, err error)

// again is an error of a form that is to be shown again, as it was filled in.
type again struct {
	view *view
}

// Error is that of error.
func (a *again) Error() string { return "the form is to be shown again" }

// refusal404 is an error for what there is not.
func refusal404(text string) error { return connect.NewError(connect.CodeNotFound, errors.New(text)) }

// sentence is what an error says to people.
func sentence(err error) string {
	text := err.Error()
	if c := (*connect.Error)(nil); errors.As(err, &c) {
		text = c.Message()
	}
	first, _, _ := strings.Cut(text, " ")
	if first == "" || strings.ContainsAny(first, ".:/_") { // a name, of a file or a setting
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// statusOf is the HTTP status of a page that cannot be shown.
func statusOf(err error) int {
	if connect.CodeOf(err) == connect.CodeNotFound {
		return http.StatusNotFound
	}
	return http.StatusServiceUnavailable
}

// reading shows a page to those who have a session.
func (d *Dashboard) reading(p page) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !d.sessions.has(nameIn(r)) {
			d.toLogin(w, r)
			return
		}
		v, err := p(r)
		if err != nil {
			v = &view{Template: "error", Title: "That did not work", Status: statusOf(err), Body: sentence(err)}
		}
		d.show(w, r, v)
	}
}

// changing does what a form of somebody with a session asks for.
func (d *Dashboard) changing(c change) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name := nameIn(r)
		if !d.sessions.has(name) {
			d.toLogin(w, r)
			return
		}
		if err := r.ParseForm(); err != nil {
			http.Error(w, "The form could not be read.", http.StatusBadRequest)
			return
		}
		to, t, err := c(r.WithContext(operator(r)))
		if form := (*again)(nil); errors.As(err, &form) {
			d.show(w, r, form.view)
			return
		}
		if err != nil {
			t = told{Text: sentence(err), Bad: true}
		}
		http.Redirect(w, r, withQuery(to, "told", d.sessions.tell(name, t)), http.StatusSeeOther)
	}
}

// operator names who asks, for the log.
func operator(r *http.Request) context.Context {
	return admin.As(r.Context(), "dashboard from "+r.RemoteAddr)
}

// withQuery adds a value to a URL of this handler's own.
func withQuery(to, name, value string) string {
	sign := "?"
	if strings.Contains(to, "?") {
		sign = "&"
	}
	return to + sign + url.Values{name: {value}}.Encode()
}

// toLogin asks for the token. What replaces parts of pages has the browser go there.
func (d *Dashboard) toLogin(w http.ResponseWriter, r *http.Request) {
	to := root + "/login"
	if r.Method == http.MethodGet {
		to = withQuery(to, "next", r.URL.RequestURI())
	}
	if partial(r) {
		// The address that the part of a page is asked by is the page's own.
		w.Header().Set("HX-Redirect", to)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// showSeries answers with what the charts draw.
func (d *Dashboard) showSeries(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if !d.sessions.has(nameIn(r)) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	_ = json.NewEncoder(w).Encode(d.samples.series()) // the client may be gone
}
