package config

import (
	"encoding/json"

	"github.com/rs/zerolog"
)

// Secret is a credential. However it is printed, only its first three and last
// four characters show; [Secret.Reveal] is the one way to the whole.
type Secret string

// Reveal returns the credential itself, for the wire only.
func (s Secret) Reveal() string { return string(s) }

// String masks the credential: sk-…1234, or … when it is too short to show any.
func (s Secret) String() string {
	switch {
	case s == "":
		return ""
	case len(s) < 16:
		return "…"
	default:
		return string(s[:3]) + "…" + string(s[len(s)-4:])
	}
}

// GoString masks the credential for %#v.
func (s Secret) GoString() string { return `config.Secret("` + s.String() + `")` }

// MarshalJSON masks the credential.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// MarshalText masks the credential.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalZerologObject masks the credential.
func (s Secret) MarshalZerologObject(e *zerolog.Event) { e.Str("secret", s.String()) }
