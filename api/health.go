package api

import (
	"net/http"
	"time"

	"github.com/weir-gateway/weir/openai"
	"github.com/weir-gateway/weir/upstream"
	"github.com/weir-gateway/weir/upstream/pool"
)

// The words of health as a whole.
const (
	statusOK          = "ok"
	statusDegraded    = "degraded"    // something is wrong, and requests are served
	statusUnavailable = "unavailable" // no upstream answers
	statusDraining    = "draining"    // weir is about to stop
)

// Parts are ok, or one of these: the newest state of a file was not taken; the store
// does not answer.
const (
	partStale = "stale"
	partAway  = "away"
)

// health is what GET /health answers.
type health struct {
	Status string `json:"status"`
	Parts  parts  `json:"parts"`
}

type parts struct {
	Store     StoreHealth      `json:"store"`
	Config    *ConfigHealth    `json:"config,omitempty"`
	Keys      keys             `json:"keys"`
	Upstreams []upstreamHealth `json:"upstreams"`
}

// upstreamHealth tells of one upstream.
type upstreamHealth struct {
	Name    string          `json:"name"`
	Status  upstream.Status `json:"status"`
	Keys    int             `json:"keys"`               // of its pool; 0 if it has none
	Usable  int             `json:"usable"`             // of them, now
	KeyFile *keyFile        `json:"key_file,omitempty"` // nil: its keys are in no file

	lost bool
}

// keyFile tells of the file of a pool's keys.
type keyFile struct {
	Status string `json:"status"`          // ok, or stale: its newest state has a mistake
	Place  string `json:"place,omitempty"` // of the mistake: the file's name, and the line
}

func (a *API) upstreams() []upstreamHealth {
	list := []upstreamHealth{}
	for _, s := range a.opts.Models.Servers() {
		h := upstreamHealth{Name: s.Name, Status: s.Status(), lost: s.Lost()}
		if s.Pool != nil {
			h.Keys, h.Usable = s.Pool.Len(), s.Pool.Usable()
			h.KeyFile = fileOf(s)
		}
		list = append(list, h)
	}
	return list
}

func fileOf(s *upstream.Server) *keyFile {
	path := s.Upstream.Pool.File
	if path == "" {
		return nil
	}
	if err := s.Stale(); err != nil {
		return &keyFile{partStale, pool.Place(path, err)}
	}
	return &keyFile{Status: statusOK}
}

// StoreHealth tells how the limits' store does.
type StoreHealth struct {
	Status      string  `json:"status"` // ok, or away: limits do what they are to do then
	Kind        string  `json:"kind"`   // memory or redis
	AwaySeconds float64 `json:"away_seconds,omitempty"`
	Owed        int     `json:"owed_exchanges,omitempty"` // that it is to be told of
	Replicas    int     `json:"replicas"`
}

// ConfigHealth tells of the configuration in force.
type ConfigHealth struct {
	Status     string  `json:"status"` // ok, or stale: the newest file was not taken
	AgeSeconds float64 `json:"age_seconds"`
}

type keys struct {
	Status string  `json:"status"` // ok, or stale: the newest files have a mistake
	Count  int     `json:"count"`
	Age    float64 `json:"age_seconds"` // of the keys in force
}

// status is the word for all parts together. One upstream that is not lost is enough to be
// worth requests; with none they should go elsewhere. What weir waits for comes back
// without requests: see [upstream.Server.Status].
func (p *parts) status() string {
	well := p.Store.Status != partAway && p.Keys.Status != partStale && (p.Config == nil || p.Config.Status != partStale)
	serves := false
	for _, u := range p.Upstreams {
		serves = serves || !u.lost
		well = well && u.Status == upstream.StatusOK && (u.KeyFile == nil || u.KeyFile.Status != partStale)
	}
	switch {
	case !serves:
		return statusUnavailable
	case !well:
		return statusDegraded
	}
	return statusOK
}

// health tells whether requests should be sent here. With ?live its status is 200 as
// long as the process runs.
func (a *API) health(w http.ResponseWriter, r *http.Request) *openai.Error {
	status := a.opts.Keys.Status()
	h := health{Parts: parts{
		Store: a.opts.Store(), Upstreams: a.upstreams(),
		Keys: keys{Status: statusOK, Count: status.Keys, Age: time.Since(status.Loaded).Round(time.Second).Seconds()},
	}}
	if a.opts.Config != nil {
		c := a.opts.Config()
		h.Parts.Config = &c
	}
	if status.Err != nil {
		h.Parts.Keys.Status = partStale
	}
	h.Status = h.Parts.status()
	if a.draining.Load() {
		h.Status = statusDraining
	}
	code := http.StatusOK
	if (h.Status == statusDraining || h.Status == statusUnavailable) && !r.URL.Query().Has("live") {
		code = http.StatusServiceUnavailable
	}
	writeJSON(w, code, h)
	return nil
}
