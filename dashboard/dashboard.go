package dashboard

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/weir-gateway/weir/admin"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/webfile"
)

// root is where the pages are.
const root = "/dashboard"

// maxForm bounds what a form may send, in bytes.
const maxForm = 64 << 10

// policy is what the pages' own files need, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

//go:embed assets
var assets embed.FS

// Options are what the pages show and change. Loaded tells when weir.yaml was read, and
// why its newest state is not in force; nil: there is no file.
type Options struct {
	Services admin.Services
	Token    *admin.Token
	Keys     func() keyring.Status
	Plans    func() []string
	Store    func() Store
	Loaded   func() (at time.Time, err error)
	Metrics  prometheus.Gatherer
	Version  string
	Log      zerolog.Logger
}

// Store tells how the store of limits does.
type Store struct {
	Kind     string // memory or redis
	Away     bool   // limits do what they are to do then
	For      time.Duration
	Owed     int // exchanges that it is to be told of
	Replicas int
}

// Dashboard is the handler of all pages.
type Dashboard struct {
	opts     Options
	mux      *http.ServeMux
	guard    *http.CrossOriginProtection
	pages    pages
	files    map[string]webfile.File // by path
	sessions *sessions
	samples  *samples
	limits   limitsSeen
}

// New returns the handler.
func New(opts Options) (*Dashboard, error) {
	d := &Dashboard{
		opts: opts, mux: http.NewServeMux(), guard: http.NewCrossOriginProtection(),
		sessions: newSessions(opts.Token.Mark), samples: &samples{metrics: opts.Metrics},
	}
	var err error
	if d.pages, err = parsePages(); err != nil {
		return nil, err
	}
	if d.files, err = openFiles(); err != nil {
		return nil, err
	}
	d.guard.SetDenyHandler(http.HandlerFunc(d.foreign))
	d.route()
	return d, nil
}

// Run takes the samples that the charts show, until ctx ends.
func (d *Dashboard) Run(ctx context.Context) error {
	d.samples.run(ctx)
	return nil
}

func (d *Dashboard) route() {
	moved := func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, root+"/", http.StatusFound) }
	d.mux.HandleFunc("GET /{$}", moved)
	d.mux.HandleFunc("GET "+root, moved)
	d.mux.HandleFunc("GET "+root+"/assets/", d.asset)
	d.mux.HandleFunc("GET "+root+"/login", d.showLogin)
	d.mux.HandleFunc("POST "+root+"/login", d.login)
	d.mux.HandleFunc("POST "+root+"/logout", d.logout)
	for path, page := range map[string]page{
		"/{$}": d.overview, "/keys": d.keys, "/keys/new": d.newKey, "/keys/key": d.key, "/pools": d.pools,
		"/requests": d.requests, "/limits": d.showLimits, "/config": d.config,
	} {
		d.mux.HandleFunc("GET "+root+path, d.reading(page))
	}
	d.mux.HandleFunc("GET "+root+"/series", d.showSeries)
	for path, change := range map[string]change{
		"/keys/new": d.createKey, "/keys/rotate": d.rotateKey, "/keys/revoke": d.revokeKey, "/keys/enable": d.enableKey, "/keys/disable": d.disableKey,
		"/pools/reset": d.resetPool, "/pools/enable": d.enablePoolKey, "/pools/disable": d.disablePoolKey,
		"/requests/cancel": d.cancelRequest, "/limits/reset": d.resetLimits, "/config/reload": d.reloadConfig,
	} {
		d.mux.HandleFunc("POST "+root+path, d.changing(change))
	}
	d.mux.HandleFunc("GET "+root+"/", d.reading(func(*http.Request) (*view, error) {
		return nil, refusal404("There is no such page.")
	}))
}

// ServeHTTP answers paths below /dashboard, and GET /.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	// Not no-referrer: browsers would send forms with the origin "null".
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	d.guard.Handler(d.mux).ServeHTTP(w, r)
}

// foreign answers a change that another origin's page asks for.
func (d *Dashboard) foreign(w http.ResponseWriter, r *http.Request) {
	d.opts.Log.Warn().Str("audit", "refused").Str("who", r.RemoteAddr).Str("path", admin.Short(r.URL.Path)).Msg("another site's page asked the dashboard for a change")
	http.Error(w, "This came from another site's page, and was refused. Open the dashboard itself.", http.StatusForbidden)
}

// asset answers with a file that the pages need. No session is asked for: the page on
// which one is begun needs them.
func (d *Dashboard) asset(w http.ResponseWriter, r *http.Request) {
	f, ok := d.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	f.ServeHTTP(w, r)
}

func openFiles() (map[string]webfile.File, error) {
	files := map[string]webfile.File{}
	err := fs.WalkDir(assets, "assets", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := assets.ReadFile(name)
		if err == nil {
			files[root+"/"+strings.TrimSuffix(name, ".gz")] = webfile.New(name, text)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the files of the dashboard: %w", err)
	}
	return files, nil
}
