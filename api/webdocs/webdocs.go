package webdocs

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
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

// file is what is answered to a path.
type file struct {
	kind   string // content type
	tag    string // entity tag
	text   []byte // gzipped, or not
	packed bool
}

// Handler serves the pages /docs and /redoc, and their files below /docs/assets/.
type Handler struct {
	files map[string]file // by path
}

// New returns a handler.
func New() (*Handler, error) {
	h := &Handler{files: map[string]file{
		"/docs":  newFile("swagger.html", swagger),
		"/redoc": newFile("redoc.html", redoc),
	}}
	err := fs.WalkDir(assets, "assets", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := assets.ReadFile(name)
		if err != nil {
			return err
		}
		h.files["/docs/"+strings.TrimSuffix(name, ".gz")] = newFile(name, text)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the files of the API's pages: %w", err)
	}
	return h, nil
}

func newFile(name string, text []byte) file {
	d := sha256.Sum256(text)
	plain, packed := strings.CutSuffix(name, ".gz")
	kinds := map[string]string{".js": "text/javascript; charset=utf-8", ".txt": "text/plain; charset=utf-8"} // whatever the machine's tables say
	kind, ok := kinds[path.Ext(plain)]
	if !ok {
		kind = mime.TypeByExtension(path.Ext(plain))
	}
	return file{kind: kind, tag: `"` + hex.EncodeToString(d[:8]) + `"`, text: text, packed: packed}
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
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-cache") // which asks whether the tag is still the same
	header.Set("Content-Type", f.kind)
	header.Set("ETag", f.tag)
	if r.Header.Get("If-None-Match") == f.tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if !f.packed {
		_, _ = w.Write(f.text) // the client may be gone
		return
	}
	header.Set("Vary", "Accept-Encoding")
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		header.Set("Content-Encoding", "gzip")
		_, _ = w.Write(f.text)
		return
	}
	if z, err := gzip.NewReader(bytes.NewReader(f.text)); err == nil {
		_, _ = io.Copy(w, z)
	}
}
