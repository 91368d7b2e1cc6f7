package admin

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
)

// minToken is how short a token may be, in bytes.
const minToken = 16

// unguessable is the length of tokens, in bytes, that no speed of guessing finds: whoever
// shows the right one need not be braked, and others at his address cannot keep him out.
const unguessable = 32

// Token is what operators over the network have to show.
type Token struct {
	file   string
	digest atomic.Pointer[[sha256.Size]byte]
	brake  *brake
}

// OpenToken reads the file of a token.
func OpenToken(file string) (*Token, error) {
	t := &Token{file: file, brake: newBrake()}
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
	if d := sha256.Sum256(text); t.digest.Load() == nil || *t.digest.Load() != d {
		t.digest.Store(&d)
	}
	return nil
}

// Check tells whether a secret, which came from that address, is the token. How long
// that takes tells nothing of the token. Who guesses too often is not listened to for a
// while: wait is how long that is, and 0 for all others.
func (t *Token) Check(remoteAddr, secret string) (ok bool, wait time.Duration) {
	if secret == "" {
		return false, 0 // which is no guess
	}
	d := sha256.Sum256([]byte(secret))
	ok = subtle.ConstantTimeCompare(d[:], t.digest.Load()[:]) == 1
	if ok && len(secret) >= unguessable {
		return true, 0
	}
	wait = t.brake.try(sourceOf(remoteAddr), d, ok)
	return ok && wait == 0, wait
}

// Mark is another one after the token has changed, and tells nothing of it.
func (t *Token) Mark() any { return t.digest.Load() }

// shown checks the token of a request.
func (t *Token) shown(r *http.Request) (ok bool, wait time.Duration) {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		secret = ""
	}
	return t.Check(r.RemoteAddr, strings.TrimSpace(secret))
}

const (
	unauthorized = "show the admin token, as: Authorization: Bearer TOKEN; it is in the file that admin.token_file in weir.yaml names"
	tooMany      = "too many wrong tokens came from your address: try again in %d seconds"
)

// services is how the paths of services begin.
const services = "/weir.admin."

// Guarded answers over the network: those who show the token.
func (a *Admin) Guarded(token *Token) http.Handler {
	a.token = token
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ok, wait := token.shown(r)
		if ok {
			a.mux.ServeHTTP(w, r.WithContext(As(r.Context(), "token from "+r.RemoteAddr)))
			return
		}
		a.log.Warn().Str("audit", "refused").Str("who", r.RemoteAddr).Str("path", Short(r.URL.Path)).Msg("somebody asked for admin without the token")
		if wait > 0 {
			seconds := RetryAfter(w, wait)
			refuse(w, r, http.StatusTooManyRequests, connect.NewError(connect.CodeResourceExhausted, fmt.Errorf(tooMany, seconds)))
			return
		}
		w.Header().Set("WWW-Authenticate", "Bearer")
		refuse(w, r, http.StatusUnauthorized, connect.NewError(connect.CodeUnauthenticated, errors.New(unauthorized)))
	})
}

// Short is as much of a stranger's text as a line of the log has room for.
func Short(text string) string {
	const most = 200 // bytes
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// RetryAfter tells a client when to come back, and answers the same in whole seconds.
func RetryAfter(w http.ResponseWriter, wait time.Duration) int {
	seconds := int(math.Ceil(wait.Seconds()))
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	return seconds
}

// refuse answers in the protocol of the request.
func refuse(w http.ResponseWriter, r *http.Request, status int, err *connect.Error) {
	refusals := connect.NewErrorWriter()
	if strings.HasPrefix(r.URL.Path, services) && refusals.IsSupported(r) {
		_ = refusals.Write(w, r, err) // the client may be gone
		return
	}
	write(w, status, Error{err.Message()})
}
