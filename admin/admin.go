// Package admin answers operators: the commands that ask a running weir, over a
// Unix socket that only its owner can open.
//
//	GET  /limits?key=ID              where limits stand; without key, those in use
//	POST /limits/reset?key=ID&limit=NAME   forget what they have counted
//
// Answers are JSON; errors are {"error": "a sentence"} with a status of 4xx or 5xx.
package admin

import (
	"encoding/json"
	"net/http"

	"github.com/rs/zerolog"

	"github.com/weir-gateway/weir/gateway"
	"github.com/weir-gateway/weir/upstream"
)

// Admin is the handler.
type Admin struct {
	mux       *http.ServeMux
	gateway   *gateway.Gateway
	upstreams *upstream.Directory
	log       zerolog.Logger
}

// New returns the handler. Every change that it makes is logged.
func New(g *gateway.Gateway, upstreams *upstream.Directory, log zerolog.Logger) *Admin {
	a := &Admin{mux: http.NewServeMux(), gateway: g, upstreams: upstreams, log: log}
	a.mux.HandleFunc("GET /limits", a.limits)
	a.mux.HandleFunc("POST /limits/reset", a.resetLimits)
	a.mux.HandleFunc("GET /pools", a.pools)
	a.mux.HandleFunc("POST /pools/reset", a.operate("reset", resetKeys))
	a.mux.HandleFunc("POST /pools/disable", a.operate("disable", disableKey))
	a.mux.HandleFunc("POST /pools/enable", a.operate("enable", enableKey))
	// The name that it has always had with operators of key-rotating proxies.
	a.mux.HandleFunc("POST /admin/reset-failed-keys", a.operate("reset", resetKeys))
	return a
}

// ServeHTTP routes a request.
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// Limits is the answer of GET /limits.
type Limits struct {
	Limits []gateway.LimitUsage `json:"limits"`
}

// Reset is the answer of POST /limits/reset.
type Reset struct {
	Reset int `json:"reset"` // how many limits
}

// Error is the answer where there is no other.
type Error struct {
	Error string `json:"error"`
}

func (a *Admin) limits(w http.ResponseWriter, r *http.Request) {
	list, err := a.gateway.LimitUsage(r.Context(), r.URL.Query().Get("key"))
	if err != nil {
		write(w, http.StatusUnprocessableEntity, Error{err.Error()})
		return
	}
	write(w, http.StatusOK, Limits{list})
}

func (a *Admin) resetLimits(w http.ResponseWriter, r *http.Request) {
	key, limit := r.URL.Query().Get("key"), r.URL.Query().Get("limit")
	n, err := a.gateway.ResetLimits(r.Context(), key, limit)
	if key == "" || err != nil {
		message := "name a key: ?key=ID"
		if err != nil {
			message = err.Error()
		}
		write(w, http.StatusUnprocessableEntity, Error{message})
		return
	}
	a.log.Info().Str("audit", "limits reset").Str("key", key).Str("limit", limit).Int("limits", n).Msg("an operator reset limits")
	write(w, http.StatusOK, Reset{n})
}

func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}
