// Package webfile serves files that are part of the program to browsers: packed ones as
// they are where that is understood, with tags that save sending them twice.
package webfile

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"mime"
	"net/http"
	"path"
	"strings"
)

// File is what is answered to a path.
type File struct {
	kind   string // content type
	tag    string // entity tag
	text   []byte // gzipped, or not
	packed bool
}

// New is the file of that name, whose content is gzipped if the name ends in .gz.
func New(name string, text []byte) File {
	d := sha256.Sum256(text)
	plain, packed := strings.CutSuffix(name, ".gz")
	kinds := map[string]string{".js": "text/javascript; charset=utf-8", ".txt": "text/plain; charset=utf-8"} // whatever the machine's tables say
	kind, ok := kinds[path.Ext(plain)]
	if !ok {
		kind = mime.TypeByExtension(path.Ext(plain))
	}
	return File{kind: kind, tag: `"` + hex.EncodeToString(d[:8]) + `"`, text: text, packed: packed}
}

// ServeHTTP answers with the file.
func (f File) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
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
