package keyfile

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/keyring"
	configv1 "github.com/weir-gateway/weir/proto/weir/config/v1"
)

// Store is the key files of a site.
type Store struct {
	Files config.Keys
}

// Create makes a key with an id and a secret of its own, in that file or in the first
// of weir's format. It returns the secret, of which the file has a hash.
func (s Store) Create(k *configv1.Key, file string, now time.Time) (secret string, err error) {
	file, err = s.place(file)
	if err != nil {
		return "", err
	}
	pepper, err := keyring.Pepper(s.Files.PepperFile)
	if err != nil {
		return "", err
	}
	secret, k.Id = keyring.NewSecret()
	k.Hash, k.Created = keyring.PepperedHash(pepper, secret), stamp(now)
	return secret, Add(file, k)
}

// place is the file for new keys.
func (s Store) place(file string) (string, error) {
	if file != "" {
		if !slices.Contains(s.Files.Files, file) {
			return "", fmt.Errorf("%s is none of the key files: %q", file, s.Files.Files)
		}
		return file, nil
	}
	for _, f := range s.Files.Files {
		if text, err := os.ReadFile(f); err != nil || !IsOlderJSON(text) {
			return f, nil
		}
	}
	return "", errors.New("no key file is in weir's own format: add one to keys.files in weir.yaml, or make one of an older file with weir keys import")
}

// Change has edit change a key in the file that has it. A key that was revoked stays
// as it is.
func (s Store) Change(id string, edit func(*configv1.Key) error) error {
	for _, f := range s.Files.Files {
		keys, err := Read(f)
		if errors.Is(err, ErrOlderJSON) {
			if has, broken := olderHas(f, id); has || broken != nil {
				return errors.Join(broken, fmt.Errorf("key %q is in %w", id, err))
			}
			continue
		}
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(keys, func(k *configv1.Key) bool { return keyring.IDOf(k) == id }) {
			continue
		}
		return Change(f, id, func(k *configv1.Key) error {
			if k.GetRevoked() != "" {
				return fmt.Errorf("key %q was revoked at %s, which is for good: make another", id, k.GetRevoked())
			}
			return edit(k)
		})
	}
	return fmt.Errorf("%w: %q; weir keys list shows those that there are", ErrNoKey, id)
}

// olderHas tells whether a file in the older format has that key.
func olderHas(file, id string) (bool, error) {
	k, err := keyring.Open(config.Keys{Files: []string{file}}, zerolog.Nop())
	if err != nil {
		return false, err
	}
	_, ok := k.Ring().ByID(id)
	return ok, nil
}

// Revoke ends a key for good. It stays in the file, so that its id is not used again.
func (s Store) Revoke(id string, now time.Time) error {
	return s.Change(id, func(k *configv1.Key) error {
		k.Revoked, k.Previous = stamp(now), nil
		return nil
	})
}

// Rotate gives a key another secret, beside which the present one works for as long as
// grace is.
func (s Store) Rotate(id string, grace time.Duration, now time.Time) (secret string, err error) {
	pepper, err := keyring.Pepper(s.Files.PepperFile)
	if err != nil {
		return "", err
	}
	secret, _ = keyring.NewSecret()
	return secret, s.Change(id, func(k *configv1.Key) error {
		k.Id = keyring.IDOf(k) // one that was derived from the old secret stays
		k.Previous = slices.DeleteFunc(k.GetPrevious(), func(p *configv1.Previous) bool { return over(p, now) })
		if grace > 0 {
			k.Previous = append(k.Previous, &configv1.Previous{Hash: k.GetHash(), Secret: k.GetSecret(), Until: stamp(now.Add(grace))})
		}
		k.Hash, k.Secret = keyring.PepperedHash(pepper, secret), ""
		return nil
	})
}

// over tells whether a previous secret works no more.
func over(p *configv1.Previous, now time.Time) bool {
	until, err := time.Parse(time.RFC3339, p.GetUntil())
	return err == nil && !now.Before(until)
}

// Import takes the keys of a file in the older format over, with hashes in the place
// of secrets. Those that are there already are left out. It returns the ids of those
// that were taken.
func (s Store) Import(older, file string, now time.Time) (ids []string, err error) {
	if file, err = s.place(file); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(older)
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	// Which says what is wrong, with its line.
	if _, err := keyring.Open(config.Keys{Files: []string{older}}, zerolog.Nop()); err != nil {
		return nil, err
	}
	list, err := keyring.ParseOlder(older, text, nil)
	if err != nil {
		return nil, err
	}
	pepper, err := keyring.Pepper(s.Files.PepperFile)
	if err != nil {
		return nil, err
	}
	there, err := Read(file)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, k := range there {
		known[keyring.IDOf(k)] = true
	}
	var taken []*configv1.Key
	for _, o := range list {
		k := o.Message(pepper)
		if known[k.GetId()] {
			continue
		}
		k.Created = stamp(now)
		taken, ids = append(taken, k), append(ids, k.GetId())
	}
	if len(taken) == 0 {
		return nil, nil
	}
	return ids, Add(file, taken...)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
