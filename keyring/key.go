package keyring

import (
	"net/netip"
	"path"
	"slices"
	"time"

	"github.com/weir-gateway/weir/config"
)

// Key is one client key, without its secret. It is shared and never changed.
type Key struct {
	ID        string // public, safe in logs, metrics and store keys
	User      string
	Team      string
	Plan      string
	Models    []string       // names or patterns with *; empty allows all
	Endpoints []string       // paths; empty allows all
	CIDRs     []netip.Prefix // empty allows every address
	Expires   time.Time      // zero: never
	Disabled  bool
	Revoked   time.Time      // zero: it is not
	Limits    []config.Limit // override the plan's and everyone's by name

	// For people; nothing is decided by it.
	Label    string
	Metadata map[string]string
	Created  time.Time   // zero: unknown
	Previous []time.Time // when secrets stop working that were replaced
	File     string      // it stands in; "": none
}

// Usable reports whether the key works at that time.
func (k *Key) Usable(now time.Time) bool {
	return !k.Disabled && k.Revoked.IsZero() && !k.Expired(now)
}

// Expired reports whether the key's time is over.
func (k *Key) Expired(now time.Time) bool { return !k.Expires.IsZero() && !now.Before(k.Expires) }

// AllowsModel reports whether the key may use that model. In patterns * stands
// for any characters but a slash.
func (k *Key) AllowsModel(name string) bool {
	if len(k.Models) == 0 {
		return true
	}
	for _, pattern := range k.Models {
		if ok, err := path.Match(pattern, name); ok && err == nil || pattern == "*" {
			return true
		}
	}
	return false
}

// AllowsEndpoint reports whether the key may call that path.
func (k *Key) AllowsEndpoint(path string) bool {
	return len(k.Endpoints) == 0 || slices.Contains(k.Endpoints, path)
}

// AllowsAddr reports whether the key may be used from that address.
func (k *Key) AllowsAddr(addr netip.Addr) bool {
	if len(k.CIDRs) == 0 {
		return true
	}
	for _, prefix := range k.CIDRs {
		if prefix.Contains(addr.Unmap()) {
			return true
		}
	}
	return false
}
