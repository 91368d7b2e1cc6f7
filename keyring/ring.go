package keyring

import (
	"fmt"
	"maps"
	"slices"
)

// Ring is an immutable set of keys.
type Ring struct {
	plain    map[digest]*Key
	peppered map[digest]*Key
	pepper   []byte
	byID     map[string]*Key
}

// NewRing returns a ring that holds the given keys under their secrets.
func NewRing(keys map[string]*Key) *Ring {
	r := emptyRing(nil)
	for secret, k := range keys {
		r.plain[plainDigest(secret)] = k
		r.byID[k.ID] = k
	}
	return r
}

func emptyRing(pepper []byte) *Ring {
	return &Ring{plain: map[digest]*Key{}, peppered: map[digest]*Key{}, byID: map[string]*Key{}, pepper: pepper}
}

// Lookup finds a key by its secret. The work is the same for every secret of
// one length: digests are taken of all, and a map finds a digest by a hash of
// the whole of it, so that time tells nothing about how near a guess was.
func (r *Ring) Lookup(secret string) (*Key, bool) {
	k, ok := r.plain[plainDigest(secret)]
	if len(r.peppered) > 0 {
		if peppered, found := r.peppered[pepperedDigest(r.pepper, secret)]; found {
			return peppered, true
		}
	}
	return k, ok
}

// ByID finds a key by its public name.
func (r *Ring) ByID(id string) (*Key, bool) {
	k, ok := r.byID[id]
	return k, ok
}

// Keys are all keys, in the order of their ids.
func (r *Ring) Keys() []*Key {
	keys := make([]*Key, 0, len(r.byID))
	for _, id := range slices.Sorted(maps.Keys(r.byID)) {
		keys = append(keys, r.byID[id])
	}
	return keys
}

// Len is the number of keys.
func (r *Ring) Len() int { return len(r.byID) }

// add puts a key in; two keys of one id or one secret are a mistake.
func (r *Ring) add(in map[digest]*Key, d digest, k *Key) error {
	if k.ID == "" {
		k.ID = derivedID(d)
	}
	if other, ok := in[d]; ok {
		return fmt.Errorf("key %q has the same secret as key %q", k.ID, other.ID)
	}
	if _, ok := r.byID[k.ID]; ok {
		return fmt.Errorf("two keys have the id %q", k.ID)
	}
	in[d] = k
	r.byID[k.ID] = k
	return nil
}
