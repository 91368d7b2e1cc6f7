package keyring

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Ring is an immutable set of keys.
type Ring struct {
	plain    map[digest]entry
	peppered map[digest]entry
	pepper   []byte
	byID     map[string]*Key
}

// NewRing returns a ring that holds the given keys under their secrets.
func NewRing(keys map[string]*Key) *Ring {
	r := emptyRing(nil)
	for secret, k := range keys {
		r.plain[plainDigest(secret)] = entry{key: k}
		r.byID[k.ID] = k
	}
	return r
}

func emptyRing(pepper []byte) *Ring {
	return &Ring{plain: map[digest]entry{}, peppered: map[digest]entry{}, byID: map[string]*Key{}, pepper: pepper}
}

// entry is what a secret stands for.
type entry struct {
	key   *Key
	until time.Time // when the secret stops working; zero: when the key does
}

// Lookup finds the key of a secret that works at that time, though its key may not.
// The time that it takes tells nothing of the secrets that there are: they are found
// by their digests.
func (r *Ring) Lookup(secret string, now time.Time) (*Key, bool) {
	e, ok := r.plain[plainDigest(secret)]
	if len(r.peppered) > 0 {
		if peppered, found := r.peppered[pepperedDigest(r.pepper, secret)]; found {
			e, ok = peppered, true
		}
	}
	if !ok || !e.until.IsZero() && !now.Before(e.until) {
		return nil, false
	}
	return e.key, true
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
func (r *Ring) add(in map[digest]entry, d digest, k *Key) error {
	if k.ID == "" {
		k.ID = derivedID(d)
	}
	if other, ok := in[d]; ok {
		return fmt.Errorf("key %q has the same secret as key %q", k.ID, other.key.ID)
	}
	if err := r.claim(k); err != nil {
		return err
	}
	in[d] = entry{key: k}
	return nil
}

// claim takes the id of a key for it, if it has one.
func (r *Ring) claim(k *Key) error {
	if k.ID == "" {
		return nil
	}
	if _, ok := r.byID[k.ID]; ok {
		return fmt.Errorf("two keys have the id %q", k.ID)
	}
	r.byID[k.ID] = k
	return nil
}

// addPrevious adds a secret of a key that is in the ring, which works until then.
func (r *Ring) addPrevious(in map[digest]entry, d digest, k *Key, until time.Time) error {
	if other, ok := in[d]; ok {
		return fmt.Errorf("a previous secret of key %q is one of key %q too", k.ID, other.key.ID)
	}
	in[d] = entry{k, until}
	k.Previous = append(k.Previous, until)
	return nil
}

// vanished counts the keys that could be used and are not in next, of how many.
func (r *Ring) vanished(next *Ring, now time.Time) (gone, of int) {
	for id, k := range r.byID {
		if !k.Usable(now) {
			continue
		}
		of++
		if _, ok := next.byID[id]; !ok {
			gone++
		}
	}
	return gone, of
}
