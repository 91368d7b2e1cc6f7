package admin

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"

	"connectrpc.com/connect"
)

// minToken is how short a token may be, in bytes.
const minToken = 16

// Token is what operators over the network have to show.
type Token struct {
	file   string
	digest atomic.Pointer[[sha256.Size]byte]
}

// OpenToken reads the file of a token.
func OpenToken(file string) (*Token, error) {
	t := &Token{file: file}
	return t, t.Reload()
}

// Reload reads the file again. On an error the last token stays in force.
func (t *Token) Reload() error {
	text, err := os.ReadFile(t.file)
	if err != nil {
		return fmt.Errorf("admin.token_file: %w", err)
	}
	text = bytes.TrimSpace(text)
	if len(text) < minToken {
		return fmt.Errorf("admin.token_file: %s holds fewer than %d bytes; a good one is made by: openssl rand -hex 32", t.file, minToken)
	}
	if bytes.ContainsAny(text, " \t\r\n") {
		return fmt.Errorf("admin.token_file: %s holds more than one word", t.file)
	}
	d := sha256.Sum256(text)
	t.digest.Store(&d)
	return nil
}

// shown tells whether a request shows the token. How long it takes tells nothing of it.
func (t *Token) shown(r *http.Request) bool {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	d := sha256.Sum256([]byte(strings.TrimSpace(secret)))
	return strings.EqualFold(scheme, "bearer") && subtle.ConstantTimeCompare(d[:], t.digest.Load()[:]) == 1
}

const unauthorized = "show the admin token, as: Authorization: Bearer TOKEN; it is in the file that admin.token_file in weir.yaml names"

// services is how the paths of services begin.
const services = "/weir.admin."

// Guarded answers over the network: those who show the token.
func (a *Admin) Guarded(token *Token) http.Handler {
	a.token = token
	refusals := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token.shown(r) {
			a.mux.ServeHTTP(w, r.WithContext(as(r.Context(), "token from "+r.RemoteAddr)))
			return
		}
		a.log.Warn().Str("audit", "refused").Str("who", r.RemoteAddr).Str("path", r.URL.Path).Msg("somebody asked for admin without the token")
		w.Header().Set("WWW-Authenticate", "Bearer")
		if strings.HasPrefix(r.URL.Path, services) && refusals.IsSupported(r) {
			_ = refusals.Write(w, r, connect.NewError(connect.CodeUnauthenticated, errors.New(unauthorized))) // the client may be gone
			return
		}
		write(w, http.StatusUnauthorized, Error{unauthorized})
	})
}
