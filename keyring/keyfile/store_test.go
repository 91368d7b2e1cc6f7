package keyfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/keyring"
	configv1 "github.com/weir-gateway/weir/proto/weir/config/v1"
)

// site is a store and how weir reads it.
func site(t *testing.T, pepper bool) (Store, func() *keyring.Ring) {
	t.Helper()
	dir := t.TempDir()
	s := Store{config.Keys{Files: []string{filepath.Join(dir, "keys.yaml")}}}
	if pepper {
		s.Files.PepperFile = filepath.Join(dir, "pepper")
		if err := os.WriteFile(s.Files.PepperFile, []byte("0123456789abcdef"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s, func() *keyring.Ring {
		t.Helper()
		k, err := keyring.Open(s.Files, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		return k.Ring()
	}
}

// TestLife follows a key from its making to its end.
func TestLife(t *testing.T) {
	for name, pepper := range map[string]bool{"plain": false, "peppered": true} {
		t.Run(name, func(t *testing.T) {
			s, ring := site(t, pepper)
			now := time.Now().Truncate(time.Second)
			works := func(secret string, at time.Time) bool {
				k, ok := ring().Lookup(secret, at)
				return ok && k.Usable(at)
			}
			k := &configv1.Key{User: "ann", Models: []string{"qwen/*"}, Metadata: map[string]string{"cost": "7"}}
			first, err := s.Create(k, "", now)
			if err != nil {
				t.Fatal(err)
			}
			id := k.GetId()
			if got, ok := ring().Lookup(first, now); !ok || got.ID != id || got.User != "ann" || got.Metadata["cost"] != "7" || !got.Created.Equal(now) {
				t.Fatalf("made: %+v, %v", got, ok)
			}
			second, err := s.Rotate(id, time.Hour, now)
			if err != nil {
				t.Fatal(err)
			}
			third, err := s.Rotate(id, 2*time.Hour, now.Add(30*time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct {
				what, secret string
				at           time.Duration
				want         bool
			}{
				{"the first in its grace", first, time.Hour - time.Second, true},
				{"the first after it", first, time.Hour, false},
				{"the second after the first's grace", second, time.Hour, true},
				{"the second after its own", second, 150 * time.Minute, false},
				{"the third", third, 1000 * time.Hour, true},
			} {
				if got := works(c.secret, now.Add(c.at)); got != c.want {
					t.Errorf("%s: works %v, want %v", c.what, got, c.want)
				}
			}
			fourth, err := s.Rotate(id, 0, now.Add(3*time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			if works(third, now) || !works(fourth, now) {
				t.Error("without grace the old secret works, or the new one does not")
			}
			text, err := os.ReadFile(s.Files.Files[0])
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), "previous") || strings.Contains(string(text), "sk-") {
				t.Errorf("what is over, or a secret, stands in the file:\n%s", text)
			}
			if err := s.Revoke(id, now); err != nil {
				t.Fatal(err)
			}
			if works(fourth, now) {
				t.Error("a revoked key works")
			}
			if err := s.Change(id, func(*configv1.Key) error { return nil }); err == nil || !strings.Contains(err.Error(), "for good") {
				t.Errorf("a revoked key was changed: %v", err)
			}
			if err := s.Revoke("nobody", now); !errors.Is(err, ErrNoKey) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestImport keeps ids, secrets and quotas of an older file, and no secret.
func TestImport(t *testing.T) {
	s, ring := site(t, false)
	older := filepath.Join(t.TempDir(), "api_keys.json")
	text := `{"keys":[{"key":"sk-older-0000000001","user":"ann","quota":500,"enabled":true},{"key":"sk-older-0000000002","user":"bob","enabled":false}]}`
	if err := os.WriteFile(older, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := keyring.Open(config.Keys{Files: []string{older}}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ids, err := s.Import(older, "", time.Now())
	if err != nil || len(ids) != 2 {
		t.Fatalf("%v, %v", ids, err)
	}
	for _, old := range before.Ring().Keys() {
		k, ok := ring().ByID(old.ID)
		if !ok || k.User != old.User || k.Disabled != old.Disabled || len(k.Limits) != len(old.Limits) {
			t.Errorf("key %s is now %+v", old.ID, k)
		}
	}
	if k, ok := ring().Lookup("sk-older-0000000001", time.Now()); !ok || k.Limits[0].Amount != 500 || k.Limits[0].Window != time.Minute {
		t.Errorf("the first: %+v, %v", k, ok)
	}
	if now, err := os.ReadFile(s.Files.Files[0]); err != nil || strings.Contains(string(now), "sk-older") {
		t.Errorf("a secret stands in the file: %s (%v)", now, err)
	}
	if ids, err := s.Import(older, "", time.Now()); err != nil || len(ids) != 0 {
		t.Errorf("a second time: %v, %v", ids, err)
	}
}
