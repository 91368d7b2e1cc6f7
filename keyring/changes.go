package keyring

import (
	"maps"
	"reflect"
	"slices"

	"github.com/rs/zerolog"
)

// changes are ids of keys, by what a reload has done to them.
type changes struct {
	added, removed, revoked, changed []string
}

// changesOf tells what is different in next.
func changesOf(old, next *Ring) (c changes) {
	other := differing(old, next)
	for _, id := range slices.Sorted(maps.Keys(next.byID)) {
		k := next.byID[id]
		switch was, ok := old.byID[id]; {
		case !ok:
			c.added = append(c.added, id)
		case !k.Revoked.IsZero() && was.Revoked.IsZero():
			c.revoked = append(c.revoked, id)
		case other[id] || !reflect.DeepEqual(was, k):
			c.changed = append(c.changed, id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(old.byID)) {
		if _, ok := next.byID[id]; !ok {
			c.removed = append(c.removed, id)
		}
	}
	return c
}

// differing are the ids of keys that have another secret in next.
func differing(old, next *Ring) map[string]bool {
	ids := map[string]bool{}
	for _, in := range []struct{ old, next map[digest]entry }{{old.plain, next.plain}, {old.peppered, next.peppered}} {
		for d, e := range in.next {
			if _, ok := in.old[d]; !ok {
				ids[e.key.ID] = true
			}
		}
	}
	return ids
}

// most bounds how many ids a line of the log names.
const most = 50

// log writes a line about the changes, if there are any.
func (c changes) log(log zerolog.Logger) {
	total := len(c.added) + len(c.removed) + len(c.revoked) + len(c.changed)
	if total == 0 {
		return
	}
	line := log.Info().Str("audit", "keys changed").Int("keys", total)
	for _, list := range []struct {
		name string
		ids  []string
	}{{"added", c.added}, {"removed", c.removed}, {"revoked", c.revoked}, {"changed", c.changed}} {
		if n := len(list.ids); n > 0 {
			line.Strs(list.name, list.ids[:min(n, most)])
		}
	}
	line.Msg("client keys have changed")
}
