package dashboard

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed templates
var templates embed.FS

// view is a page, or the part of one that is replaced every few seconds.
type view struct {
	Template string
	Title    string
	Section  string        // of the navigation
	Every    time.Duration // between replacements; 0: there are none
	Status   int           // HTTP; 0: 200
	Body     any

	// Set by show.
	Self    string // the address that the part is asked by
	Told    *told
	In      bool // there is a session
	Version string
	Now     time.Time
}

// Sections are the pages of the navigation.
func (*view) Sections() []section {
	return []section{
		{"overview", "Overview", root + "/"},
		{"requests", "In flight", root + "/requests"},
		{"keys", "Keys", root + "/keys"},
		{"limits", "Limits", root + "/limits"},
		{"pools", "Pools", root + "/pools"},
		{"config", "Config", root + "/config"},
	}
}

type section struct{ ID, Name, Path string }

// Seconds is Every as htmx reads it.
func (v *view) Seconds() string { return fmt.Sprintf("every %ds", int(v.Every.Seconds())) }

// pages are the parsed templates, by name.
type pages map[string]*template.Template

func parsePages() (pages, error) {
	layout, err := template.New("layout.html").Funcs(functions).ParseFS(templates, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return nil, fmt.Errorf("read the pages: %w", err)
	}
	files, err := fs.Glob(templates, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("read the pages: %w", err)
	}
	all := pages{}
	for _, file := range files {
		name := strings.TrimSuffix(path.Base(file), ".html")
		if name == "layout" || name == "parts" {
			continue
		}
		page, err := layout.Clone()
		if err == nil {
			page, err = page.ParseFS(templates, file)
		}
		if err != nil {
			return nil, fmt.Errorf("read the pages: %w", err)
		}
		all[name] = page
	}
	return all, nil
}

// partHeader tells the page's script that an answer is part of a page, and not what
// something before weir says instead.
const partHeader = "X-Weir-Part"

// partial tells whether only the part of a page is asked for that is replaced.
func partial(r *http.Request) bool { return r.Header.Get("HX-Request") == "true" }

// show answers with a page, or the part of it that is asked for.
func (d *Dashboard) show(w http.ResponseWriter, r *http.Request, v *view) {
	name := nameIn(r)
	v.In, v.Version, v.Now = d.sessions.has(name), d.opts.Version, time.Now()
	query := r.URL.Query()
	part := "layout.html"
	if partial(r) {
		part = "live"
		w.Header().Set(partHeader, "live") // it is shown, whatever the status
	} else if t, ok := d.sessions.hear(name, query.Get("told")); ok {
		v.Told = &t
	}
	query.Del("told")
	v.Self = r.URL.Path
	if len(query) > 0 {
		v.Self += "?" + query.Encode()
	}
	var text bytes.Buffer
	if err := d.pages[v.Template].ExecuteTemplate(&text, part, v); err != nil {
		d.opts.Log.Error().Err(err).Str("page", v.Template).Msg("a bug in weir: a page could not be made")
		http.Error(w, "This page could not be made. The log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(cmp.Or(v.Status, http.StatusOK))
	_, _ = text.WriteTo(w) // the client may be gone
}
