package upstream

import (
	"bytes"
	"fmt"
	"os"

	"github.com/weir-gateway/weir/config"
)

// Route is where the requests for a model go.
type Route struct {
	Model      config.Model
	Upstream   string        // name of the upstream
	Credential config.Secret // sent as a bearer token; "" sends none
}

// Table resolves models. It is immutable.
type Table struct {
	byName       map[string]Route // under the name and each alias
	models       []config.Model   // in the order of the configuration
	defaultModel string
}

// New makes the table of a configuration, and reads the credentials that it
// keeps in files.
func New(cfg *config.Config) (*Table, error) {
	credentials := map[string]config.Secret{}
	for _, u := range cfg.Upstreams {
		secret, err := credential(u)
		if err != nil {
			return nil, fmt.Errorf("upstream %q: %w", u.Name, err)
		}
		credentials[u.Name] = secret
	}
	t := &Table{byName: map[string]Route{}, models: cfg.Models, defaultModel: cfg.DefaultModel}
	for _, m := range cfg.Models {
		r := Route{Model: m, Upstream: m.Upstream, Credential: credentials[m.Upstream]}
		for _, name := range Names(m) {
			t.byName[name] = r
		}
	}
	return t, nil
}

// credential is the secret of an upstream, from its file if it has one.
func credential(u config.Upstream) (config.Secret, error) {
	if u.KeyFile == "" {
		return u.Key, nil
	}
	text, err := os.ReadFile(u.KeyFile)
	if err != nil {
		return "", fmt.Errorf("read key_file: %w", err)
	}
	text = bytes.TrimSpace(text)
	if len(text) == 0 || bytes.ContainsAny(text, " \t\r\n") {
		return "", fmt.Errorf("key_file %s must hold one credential and nothing else", u.KeyFile)
	}
	return config.Secret(text), nil
}

// Resolve finds the route of a model by its name or an alias. The empty name is
// the default model's, if there is one.
func (t *Table) Resolve(name string) (Route, bool) {
	if name == "" {
		name = t.defaultModel
	}
	r, ok := t.byName[name]
	return r, ok
}

// Models are the models, in the order of the configuration.
func (t *Table) Models() []config.Model { return t.models }

// Names are the names of a model: its own, then its aliases.
func Names(m config.Model) []string {
	return append([]string{m.Name}, m.Aliases...)
}
