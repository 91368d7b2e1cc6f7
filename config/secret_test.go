package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

func TestSecretNeverPrintsItself(t *testing.T) {
	const value = "sk-canary-0123456789abcdef"
	s := Secret(value)
	var log bytes.Buffer
	logger := zerolog.New(&log)
	logger.Info().Object("key", s).Stringer("again", s).Interface("any", s).Send()
	encoded, err := json.Marshal(map[string]any{"key": s})
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprintf("%v %s %+v %#v %q", s, s, struct{ S Secret }{s}, s, s) + log.String() + string(encoded)
	if strings.Contains(all, "canary") {
		t.Errorf("a form shows the secret: %s", all)
	}
	if got, want := s.String(), "sk-…cdef"; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
	if got, want := Secret("short").String(), "…"; got != want {
		t.Errorf("String() of a short one = %q, want %q", got, want)
	}
	if s.Reveal() != value {
		t.Error("Reveal() must return the whole")
	}
}
