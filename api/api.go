// Package api answers the HTTP requests that weir serves itself: the list of
// models, a single model, the caller's own key, health, and what describes the API. It
// is reached through Envoy, which has asked package authz before where a key is needed.
package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/weir-gateway/weir/api/openapi"
	"github.com/weir-gateway/weir/api/webdocs"
	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/gateway"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/telemetry"
	"github.com/weir-gateway/weir/upstream"
)

// Options are what the endpoints tell of.
type Options struct {
	Models    *upstream.Directory
	Keys      *keyring.Keyring
	Metrics   *telemetry.Metrics
	Store     func() StoreHealth
	Limits    func(context.Context, *keyring.Key) ([]gateway.LimitUsage, error) // where those of a key stand
	Config    func() ConfigHealth                                               // nil: it is not told of
	KeyHeader string                                                            // the request header that names the caller's key
	Version   string                                                            // of weir
}

// API is the handler.
type API struct {
	mux      *http.ServeMux
	opts     Options
	started  time.Time
	document []byte // that describes the API
	pages    *webdocs.Handler
	draining atomic.Bool
}

// New returns the handler.
func New(opts Options) (a *API, err error) {
	a = &API{mux: http.NewServeMux(), opts: opts, started: time.Now()}
	if a.document, err = openapi.Document(opts.Version); err != nil {
		return nil, err
	}
	if a.pages, err = webdocs.New(); err != nil {
		return nil, err
	}
	a.mux.HandleFunc("GET /v1/models", a.keyed("models", a.models))
	a.mux.HandleFunc("GET /v1/models/{id...}", a.keyed("models", a.model))
	a.mux.HandleFunc("GET /v1/key", a.keyed("key", a.key))
	a.mux.HandleFunc("GET /health", a.counted("health", a.health))
	a.mux.HandleFunc("GET /openapi.json", a.counted("docs", a.describe))
	for _, path := range []string{"/docs", "/docs/", "/redoc"} {
		a.mux.HandleFunc("GET "+path, a.counted("docs", a.page))
	}
	return a, nil
}

// ServeHTTP routes a request. Envoy lets no other paths through.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// Drain makes health answer 503, so that no new requests are sent here.
func (a *API) Drain() { a.draining.Store(true) }

// handler answers a request, or returns what is wrong with it.
type handler func(http.ResponseWriter, *http.Request) *openai.Error

// counted writes a handler's error, and counts the request.
func (a *API) counted(endpoint string, h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		status, kind := http.StatusOK, ""
		if err := h(w, r); err != nil {
			status, kind = err.Status, err.Type
			writeError(w, err)
		}
		a.opts.Metrics.Answered(endpoint, status, kind, time.Since(start))
	}
}

// keyed passes the caller's key to a handler.
func (a *API) keyed(endpoint string, h func(http.ResponseWriter, *http.Request, *keyring.Key) *openai.Error) http.HandlerFunc {
	return a.counted(endpoint, func(w http.ResponseWriter, r *http.Request) *openai.Error {
		key, ok := a.opts.Keys.Ring().ByID(r.Header.Get(a.opts.KeyHeader))
		if !ok {
			return &openai.Error{
				Status: http.StatusUnauthorized, Type: openai.TypeInvalidRequest, Code: openai.CodeInvalidKey,
				Message: "Incorrect API key provided: it was revoked or has expired.",
			}
		}
		return h(w, r, key)
	})
}

// modelObject is a model in OpenAI's shape, with its window under the names that
// other servers use.
type modelObject struct {
	ID            string `json:"id"`
	Object        string `json:"object"`
	Created       int64  `json:"created"`
	OwnedBy       string `json:"owned_by"`
	ContextLength int64  `json:"context_length,omitempty"` // tokens
	MaxModelLen   int64  `json:"max_model_len,omitempty"`  // tokens
}

func (a *API) object(m config.Model, name string) modelObject {
	return modelObject{
		ID: name, Object: "model", Created: a.started.Unix(), OwnedBy: "weir",
		ContextLength: m.Context, MaxModelLen: m.Context,
	}
}

// models lists what the key may use, aliases too.
func (a *API) models(w http.ResponseWriter, _ *http.Request, key *keyring.Key) *openai.Error {
	list := []modelObject{}
	for _, m := range a.opts.Models.Table().Models() {
		if !gateway.ModelAllowed(key, m) {
			continue
		}
		for _, name := range upstream.Names(m) {
			list = append(list, a.object(m, name))
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": list})
	return nil
}

// model tells of one model; its name may hold slashes.
func (a *API) model(w http.ResponseWriter, r *http.Request, key *keyring.Key) *openai.Error {
	name, info := strings.CutSuffix(r.PathValue("id"), "/info")
	table := a.opts.Models.Table()
	route, ok := table.Resolve(name)
	if !ok || name == "" || !gateway.ModelAllowed(key, route.Model) {
		return gateway.UnknownModel(table, name)
	}
	if info {
		writeJSON(w, http.StatusOK, a.info(route, name))
		return nil
	}
	writeJSON(w, http.StatusOK, a.object(route.Model, name))
	return nil
}

// modelInfo is what else is known of a model.
type modelInfo struct {
	modelObject
	Model     string   `json:"model"`                // its own name
	Aliases   []string `json:"aliases"`              // other names for it
	MaxOutput int64    `json:"max_output,omitempty"` // tokens, where a request says nothing
	Available bool     `json:"available"`            // an upstream is there to answer
	Default   bool     `json:"default"`              // serves requests that name no model
}

func (a *API) info(route *upstream.Route, name string) modelInfo {
	m := route.Model
	i := modelInfo{modelObject: a.object(m, name), Model: m.Name, Aliases: m.Aliases, MaxOutput: m.MaxOutput}
	if i.Aliases == nil {
		i.Aliases = []string{}
	}
	for _, t := range route.Targets {
		i.Available = i.Available || !t.Server.Down() && t.Server.Usable()
	}
	if chosen, ok := a.opts.Models.Table().Resolve(""); ok {
		i.Default = chosen == route
	}
	return i
}

// describe answers with the API's description.
func (a *API) describe(w http.ResponseWriter, _ *http.Request) *openai.Error {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(a.document) // the client may be gone
	return nil
}

// page answers with a page about the API, or a file of one.
func (a *API) page(w http.ResponseWriter, r *http.Request) *openai.Error {
	if !a.pages.Has(r.URL.Path) {
		return &openai.Error{
			Status: http.StatusNotFound, Type: openai.TypeInvalidRequest, Code: openai.CodeUnknownURL,
			Message: "There is no such page. This gateway serves GET /docs, GET /redoc and GET /openapi.json.",
		}
	}
	a.pages.ServeHTTP(w, r)
	return nil
}

func writeError(w http.ResponseWriter, e *openai.Error) {
	for _, h := range e.Headers() {
		w.Header().Set(h.Name, h.Value)
	}
	w.WriteHeader(e.Status)
	_, _ = w.Write(e.Body()) // the client may be gone
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		status, text = http.StatusInternalServerError, []byte(`{}`) // plain structs: it cannot fail
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client may be gone
}
