package simulator

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Model is a model that is served.
type Model struct {
	Name    string
	Context int64 // max_model_len in tokens; 0: no limit, and null in /v1/models
	Script  Script
}

// ParseModel reads NAME or NAME=SCRIPT, such as "demo=tokens=40,pace=20ms". The
// script may have a member more, context=N, the context in tokens. Its errors
// are those of ParseScript.
func ParseModel(text string) (Model, error) {
	name, script, _ := strings.Cut(text, "=")
	m := Model{Name: strings.TrimSpace(name)}
	if m.Name == "" {
		return Model{}, errors.New("model has no name, want NAME or NAME=SCRIPT")
	}
	err := eachMember(script, func(name, value string) (err error) {
		if name != "context" {
			return m.Script.set(name, value)
		}
		m.Context, err = parseCount(name, value, 1, math.MaxInt32)
		return err
	})
	if err != nil {
		return Model{}, fmt.Errorf("model %q: %w", m.Name, err)
	}
	return m, nil
}

// model finds the model that a request names. As with vLLM, no name means the
// first.
func (s *Simulator) model(name string) (Model, error) {
	if name == "" {
		return s.models[0], nil
	}
	i := slices.IndexFunc(s.models, func(m Model) bool { return m.Name == name })
	if i < 0 {
		return Model{}, unknownModel(name, s.models)
	}
	return s.models[i], nil
}
