package admin

import (
	"context"
	"errors"
	"net/http"

	"github.com/weir-gateway/weir/upstream"
	"github.com/weir-gateway/weir/upstream/pool"
)

// Pool is the state of an upstream, and of the keys of its pool if it has one.
type Pool struct {
	Upstream string           `json:"upstream"`
	Up       bool             `json:"up"`
	Status   upstream.Status  `json:"status"`
	Usable   int              `json:"usable"`          // keys
	Keys     []pool.KeyStatus `json:"keys"`            // empty: no pool
	Stale    string           `json:"stale,omitempty"` // why the newest state of the keys' file is not in force
}

// Pools is the answer to GET /pools.
type Pools struct {
	Pools []Pool `json:"pools"`
}

// Changed is the answer to what changes keys.
type Changed struct {
	Changed int `json:"changed"` // keys
}

func (a *Admin) pools(w http.ResponseWriter, _ *http.Request) {
	write(w, http.StatusOK, Pools{a.poolList()})
}

func (a *Admin) poolList() []Pool {
	list := []Pool{}
	for _, s := range a.upstreams.Servers() {
		p := Pool{Upstream: s.Name, Up: !s.Down(), Status: s.Status(), Keys: []pool.KeyStatus{}}
		if err := s.Stale(); err != nil {
			p.Stale = err.Error()
		}
		if s.Pool != nil {
			p.Usable, p.Keys = s.Pool.Usable(), s.Pool.Status()
		}
		list = append(list, p)
	}
	return list
}

// operate changes the keys of ?upstream= that are ?key=, an id or a label. Without
// upstream it is every pool that has the key; without key, all its keys.
func (a *Admin) operate(verb string, change func(p *pool.Pool, key string) int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n, err := a.change(r.Context(), verb, r.URL.Query().Get("upstream"), r.URL.Query().Get("key"), change)
		if err != nil {
			write(w, http.StatusUnprocessableEntity, Error{err.Error()})
			return
		}
		write(w, http.StatusOK, Changed{int(n)})
	}
}

func (a *Admin) change(ctx context.Context, verb, name, key string, change func(p *pool.Pool, key string) int) (int32, error) {
	if key == "" && verb != "reset" {
		return 0, errors.New("name a key by its id or label: ?key=NAME")
	}
	n, found := 0, false
	for _, s := range a.upstreams.Servers() {
		if s.Pool == nil || name != "" && name != s.Name || key != "" && !has(s, key) {
			continue
		}
		found = true
		n += change(s.Pool, key)
	}
	if !found {
		return 0, errors.New("no pool has that key: weir pool status lists them")
	}
	Audit(ctx, a.log, "upstream keys "+verb).Info().Str("upstream", name).Str("key", key).Int("keys", n).Msg("an operator changed upstream keys")
	return int32(n), nil //nolint:gosec // a number of keys
}

func has(s *upstream.Server, key string) bool {
	for _, k := range s.Pool.Status() {
		if k.ID == key || k.Label == key {
			return true
		}
	}
	return false
}

func resetKeys(p *pool.Pool, key string) int {
	if key == "" {
		return p.Reset()
	}
	return p.Reset(key)
}

func disableKey(p *pool.Pool, key string) int { return count(p.Disable(key)) }
func enableKey(p *pool.Pool, key string) int  { return count(p.Enable(key)) }

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}
