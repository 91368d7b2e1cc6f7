package pool

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/weir-gateway/weir/config"
)

// Key is one credential of an upstream. It is shared and never changed.
type Key struct {
	ID     string // public: [KeyID] of the secret
	Label  string // for people, such as billing-b or key-3f9a1c
	Secret config.Secret
	Weight int // its part under [Weighted]; 1 at least
}

// idPrefix begins the IDs of keys.
const idPrefix = "uk_"

// KeyID is the public name of a secret: safe in logs, metrics and stores, and the
// same in all replicas.
func KeyID(secret config.Secret) string {
	// The prefix keeps it apart from the digests that client keys are found by.
	d := sha256.Sum256([]byte("weir upstream key\x00" + secret.Reveal()))
	return idPrefix + hex.EncodeToString(d[:5])
}

// named gives labels to keys that have none. They come from the ID, and so from the
// secret: a key keeps its label when others come and go. Where a short one would not be
// the only one, all that it would fit have the whole of it.
func named(keys []Key) {
	const short = 6 // characters of a digest
	taken := make(map[string]int, len(keys))
	digest := func(k *Key) string { return strings.TrimPrefix(KeyID(k.Secret), idPrefix) }
	for i := range keys {
		label := keys[i].Label
		if label == "" {
			label = "key-" + digest(&keys[i])[:short]
		}
		taken[label]++
	}
	for i := range keys {
		if keys[i].Label != "" {
			continue
		}
		all := digest(&keys[i])
		keys[i].Label = "key-" + all[:short]
		if taken[keys[i].Label] > 1 {
			keys[i].Label = "key-" + all
		}
	}
}

// last4 is the end of a secret, "" of one that is too short to show any.
func last4(s config.Secret) string {
	if len(s) < 16 {
		return ""
	}
	return string(s[len(s)-4:])
}
