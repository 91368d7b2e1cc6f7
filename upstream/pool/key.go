package pool

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/weir-gateway/weir/config"
)

// Key is one credential of an upstream. It is shared and never changed.
type Key struct {
	ID     string // public: [KeyID] of the secret
	Label  string // for people, such as key-3
	Secret config.Secret
	Weight int // its part under [Weighted]; 1 at least
}

// KeyID is the public name of a secret: safe in logs, metrics and stores, and the
// same in all replicas.
func KeyID(secret config.Secret) string {
	// The prefix keeps it apart from the digests that client keys are found by.
	d := sha256.Sum256([]byte("weir upstream key\x00" + secret.Reveal()))
	return "uk_" + hex.EncodeToString(d[:5])
}

// last4 is the end of a secret, "" of one that is too short to show any.
func last4(s config.Secret) string {
	if len(s) < 16 {
		return ""
	}
	return string(s[len(s)-4:])
}
