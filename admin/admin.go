// Package admin is what operators ask of a running weir: services over gRPC, gRPC-Web
// and JSON (see proto/weir/admin/v1), and a few plain paths that scripts have known for
// long. Every change is a line of the log with the member "audit", which tells who did
// what to which key, and never a secret.
package admin

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"time"

	"connectrpc.com/connect"
	"github.com/rs/zerolog"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/gateway"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/proto/weir/admin/v1/adminv1connect"
	"github.com/weir-gateway/weir/upstream"
)

// maxRequest bounds what operators send, in bytes.
const maxRequest = 1 << 20

// Options are what operators look after. Config is the one in force. Reload reads
// weir.yaml again, and names the settings that take a restart; nil: there is no file.
// Metrics may be nil.
type Options struct {
	Gateway   *gateway.Gateway
	Upstreams *upstream.Directory
	Keys      *keyring.Keyring
	Config    func() *config.Config
	Reload    func(ctx context.Context) (fixed []string, err error)
	Metrics   http.Handler
	Log       zerolog.Logger
}

// Admin answers operators.
type Admin struct {
	mux       *http.ServeMux
	gateway   *gateway.Gateway
	upstreams *upstream.Directory
	keys      *keyring.Keyring
	services  Services
	log       zerolog.Logger
	token     *Token // set by Guarded; nil: there is none
}

// New returns a handler for the socket of the owner, who needs no token; see
// [Admin.Guarded].
func New(opts Options) *Admin {
	a := &Admin{mux: http.NewServeMux(), gateway: opts.Gateway, upstreams: opts.Upstreams, keys: opts.Keys, log: opts.Log}
	a.mux.HandleFunc("GET /limits", a.limits)
	a.mux.HandleFunc("POST /limits/reset", a.resetLimits)
	a.mux.HandleFunc("GET /pools", a.pools)
	a.mux.HandleFunc("POST /pools/reset", a.operate("reset", resetKeys))
	a.mux.HandleFunc("POST /pools/disable", a.operate("disable", disableKey))
	a.mux.HandleFunc("POST /pools/enable", a.operate("enable", enableKey))
	// The names that they have always had with operators of older gateways.
	a.mux.HandleFunc("POST /admin/reset-failed-keys", a.operate("reset", resetKeys))
	a.mux.HandleFunc("POST /admin/reload-keys", a.reloadKeys)
	if opts.Metrics != nil {
		a.mux.Handle("GET /metrics", opts.Metrics)
	}
	limit := connect.WithReadMaxBytes(maxRequest)
	plans := func() []string { return slices.Sorted(maps.Keys(opts.Config().Plans)) }
	a.services = Services{NewKeys(opts.Keys, plans, opts.Log), pools{a}, limits{a}, exchanges{a}, &configs{a, opts}}
	a.mux.Handle(adminv1connect.NewKeysServiceHandler(a.services.Keys, limit))
	a.mux.Handle(adminv1connect.NewPoolsServiceHandler(a.services.Pools, limit))
	a.mux.Handle(adminv1connect.NewLimitsServiceHandler(a.services.Limits, limit))
	a.mux.Handle(adminv1connect.NewExchangesServiceHandler(a.services.Exchanges, limit))
	a.mux.Handle(adminv1connect.NewConfigServiceHandler(a.services.Config, limit))
	return a
}

// Services are what the handlers answer with, for callers in this process. Changes are
// noted with the name of the operator that [As] has put into the context.
type Services struct {
	Keys      adminv1connect.KeysServiceHandler
	Pools     adminv1connect.PoolsServiceHandler
	Limits    adminv1connect.LimitsServiceHandler
	Exchanges adminv1connect.ExchangesServiceHandler
	Config    adminv1connect.ConfigServiceHandler
}

// Services are those of this handler.
func (a *Admin) Services() Services { return a.services }

// ServeHTTP answers one request of the owner's.
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mux.ServeHTTP(w, r.WithContext(As(r.Context(), "ops.sock")))
}

// who is the key of a context's operator.
type who struct{}

// As notes who asks, for the log.
func As(ctx context.Context, operator string) context.Context {
	return context.WithValue(ctx, who{}, operator)
}

// Audit is a log for what the operator of that context has changed.
func Audit(ctx context.Context, log zerolog.Logger, what string) *zerolog.Logger {
	operator, _ := ctx.Value(who{}).(string)
	noted := log.With().Str("audit", what).Str("who", operator).Logger()
	return &noted
}

// Limits answers GET /limits.
type Limits struct {
	Limits []gateway.LimitUsage `json:"limits"`
}

// Reset answers POST /limits/reset.
type Reset struct {
	Reset int `json:"reset"` // how many limits
}

// Error answers what was refused.
type Error struct {
	Error string `json:"error"`
}

// limits tells where the limits of ?key= stand, or all that are in use.
func (a *Admin) limits(w http.ResponseWriter, r *http.Request) {
	list, err := a.gateway.LimitUsage(r.Context(), r.URL.Query().Get("key"))
	if err != nil {
		write(w, http.StatusUnprocessableEntity, Error{err.Error()})
		return
	}
	write(w, http.StatusOK, Limits{list})
}

// resetLimits resets the limits of ?key=, or only ?limit= of them.
func (a *Admin) resetLimits(w http.ResponseWriter, r *http.Request) {
	key, limit := r.URL.Query().Get("key"), r.URL.Query().Get("limit")
	if key == "" {
		write(w, http.StatusUnprocessableEntity, Error{"name a key: ?key=ID"})
		return
	}
	n, err := a.forget(r.Context(), key, limit)
	if err != nil {
		write(w, http.StatusUnprocessableEntity, Error{err.Error()})
		return
	}
	write(w, http.StatusOK, Reset{n})
}

func (a *Admin) forget(ctx context.Context, key, limit string) (int, error) {
	n, err := a.gateway.ResetLimits(ctx, key, limit)
	if err == nil {
		Audit(ctx, a.log, "limits reset").Info().Str("key", key).Str("limit", limit).Int("limits", n).Msg("an operator reset limits")
	}
	return n, err
}

// Reloaded answers POST /admin/reload-keys.
type Reloaded struct {
	Status string    `json:"status"` // success
	Keys   int       `json:"keys"`   // in force
	Loaded time.Time `json:"loaded"`
}

// reloadKeys reads the key files again; with ?force=true also where most keys are gone.
func (a *Admin) reloadKeys(w http.ResponseWriter, r *http.Request) {
	if err := a.reload(r.Context(), r.URL.Query().Get("force") == "true"); err != nil {
		write(w, http.StatusUnprocessableEntity, Error{err.Error()})
		return
	}
	s := a.keys.Status()
	write(w, http.StatusOK, Reloaded{"success", s.Keys, s.Loaded})
}

func (a *Admin) reload(ctx context.Context, force bool) error {
	if err := a.keys.Reload(force); err != nil {
		return err
	}
	if a.token != nil {
		if err := a.token.Reload(); err != nil {
			return err
		}
	}
	Audit(ctx, a.log, "keys reloaded").Info().Bool("forced", force).Int("keys", a.keys.Status().Keys).Msg("an operator had the key files read")
	return nil
}

func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}
