package webdocs

import (
	"embed"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"github.com/weir-gateway/weir/webfile"
)

var (
	//go:embed swagger.html
	swagger []byte
	//go:embed redoc.html
	redoc []byte
	//go:embed assets
	assets embed.FS
)

// policy lets the pages load what weir serves, and nothing else. Both write styles into
// the page, Swagger UI has pictures in its style sheet, and Redoc searches in a worker.
const policy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; connect-src 'self'; " +
	"worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handler serves the pages /docs and /redoc, and their files below /docs/assets/.
type Handler struct {
	files map[string]webfile.File // by path
}

// New returns a handler.
func New() (*Handler, error) {
	h := &Handler{files: map[string]webfile.File{
		"/docs":  webfile.New("swagger.html", swagger),
		"/redoc": webfile.New("redoc.html", redoc),
	}}
	err := fs.WalkDir(assets, "assets", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := assets.ReadFile(name)
		if err != nil {
			return err
		}
		h.files["/docs/"+strings.TrimSuffix(name, ".gz")] = webfile.New(name, text)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the files of the API's pages: %w", err)
	}
	return h, nil
}

// Has tells whether there is something to answer to a path.
func (h *Handler) Has(path string) bool {
	_, ok := h.files[path]
	return ok
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := h.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	header := w.Header()
	header.Set("Content-Security-Policy", policy)
	header.Set("Referrer-Policy", "no-referrer")
	f.ServeHTTP(w, r)
}
