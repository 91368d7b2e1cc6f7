package upstream

import (
	"slices"

	"github.com/weir-gateway/weir/config"
)

// Target is one place where a model is served.
type Target struct {
	Server *Server
	Model  string // what the server calls the model
	Weight uint32 // share of the requests that begin here
}

// Route is where the requests for a model can go.
type Route struct {
	Model   config.Model
	Targets []Target // in order of preference; never empty
}

// Table resolves models. It is immutable.
type Table struct {
	byName       map[string]*Route // under the name and each alias
	models       []config.Model    // in the order of the configuration, then of the offers
	defaultModel string
	learning     bool
}

// newTable makes a table of the configured models and of what the servers offer.
// A configured model is served where the configuration says, and nowhere else; one
// that several servers offer is served by all of them, in their order.
func newTable(cfg *config.Config, servers []*Server) *Table {
	t := &Table{byName: map[string]*Route{}}
	byServer := map[string]*Server{}
	for _, s := range servers {
		byServer[s.Name] = s
	}
	var routes []*Route
	for _, m := range cfg.Models {
		r := &Route{Model: m}
		for _, name := range m.Upstreams {
			served := m.Name
			if other, ok := m.ServedAs[name]; ok {
				served = other
			}
			r.Targets = append(r.Targets, Target{Server: byServer[name], Model: served, Weight: m.Weights[name]})
		}
		r.Model.Context = window(r)
		for _, name := range Names(m) {
			t.byName[name] = r
		}
		routes = append(routes, r)
	}
	configured := len(routes)
	for _, s := range servers {
		t.learning = t.learning || s.Offer == config.Discover && s.found.Load() == nil
		for _, m := range s.offers() {
			r, ok := t.byName[m.Name]
			switch {
			case !ok:
				r = &Route{Model: config.Model{Name: m.Name, Context: m.Context}}
				t.byName[m.Name] = r
				routes = append(routes, r)
			case slices.Contains(routes[:configured], r):
				continue
			}
			r.Targets = append(r.Targets, Target{Server: s, Model: m.Name})
			r.Model.Upstreams = append(r.Model.Upstreams, s.Name)
		}
	}
	for _, r := range routes {
		t.models = append(t.models, r.Model)
	}
	t.defaultModel = defaultModel(cfg.DefaultModel)
	return t
}

func defaultModel(name string) string {
	switch name {
	case "":
		return config.DefaultModel
	case config.NoModel:
		return ""
	}
	return name
}

// window is a model's context window: as configured, else the smallest that its
// servers tell, else the catalogue's.
func window(r *Route) int64 {
	if r.Model.Context > 0 {
		return r.Model.Context
	}
	var least int64
	for _, t := range r.Targets {
		for _, m := range t.Server.listed() {
			if m.Name == t.Model && m.Context > 0 && (least == 0 || m.Context < least) {
				least = m.Context
			}
		}
	}
	if least == 0 {
		least = catalogued(r.Model.Name)
	}
	return least
}

// Resolve finds the route of a model by its name or an alias. The empty name is
// the default model's, if there is one.
func (t *Table) Resolve(name string) (*Route, bool) {
	if name == "" {
		name = t.defaultModel
	}
	r, ok := t.byName[name]
	return r, ok
}

// Learning tells that a server that lists its models itself has not done so yet: a
// model that is not in the table may exist.
func (t *Table) Learning() bool { return t.learning }

// Models are the models that can be named.
func (t *Table) Models() []config.Model { return t.models }

// Names are the names of a model: its own, then its aliases.
func Names(m config.Model) []string {
	return append([]string{m.Name}, m.Aliases...)
}
