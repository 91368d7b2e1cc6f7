package keyring

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/watch"
)

// Keyring is the set of keys now in force, and follows its files.
type Keyring struct {
	ring  atomic.Pointer[Ring]
	files config.Keys
	log   zerolog.Logger

	mu     sync.Mutex // serialises Reload; guards status
	status Status
}

// Status tells how the files were last read.
type Status struct {
	Loaded time.Time // when the ring in force was read
	Keys   int
	Err    error // why the newest state of the files is not in force; nil when it is
}

// Open reads the files. Unlike later, a mistake in them is an error now.
func Open(files config.Keys, log zerolog.Logger) (*Keyring, error) {
	k := &Keyring{files: files, log: log}
	k.ring.Store(emptyRing(nil))
	return k, k.Reload()
}

// Fixed returns a keyring of those keys by secret, without files.
func Fixed(keys map[string]*Key) *Keyring {
	k := &Keyring{log: zerolog.Nop()}
	k.ring.Store(NewRing(keys))
	k.status = Status{Loaded: time.Now(), Keys: len(keys)}
	return k
}

// Ring returns the keys now in force.
func (k *Keyring) Ring() *Ring { return k.ring.Load() }

// Status tells how the files were last read.
func (k *Keyring) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.status
}

// Reload reads all files and, if they are without mistake, puts them in force.
func (k *Keyring) Reload() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.files.Files) == 0 && k.status.Keys > 0 {
		return nil // fixed
	}
	ring, warnings, err := load(k.files)
	for _, w := range warnings {
		k.log.Warn().Msg(w)
	}
	k.status.Err = err
	if err != nil {
		return err
	}
	k.ring.Store(ring)
	k.status.Loaded, k.status.Keys = time.Now(), ring.Len()
	return nil
}

// Watch reloads when a file changes, until ctx ends.
func (k *Keyring) Watch(ctx context.Context) error {
	files := slices.Clone(k.files.Files)
	if k.files.PepperFile != "" && len(files) > 0 {
		files = append(files, k.files.PepperFile)
	}
	return watch.Files(ctx, files, k.log, k.ReloadLogged)
}

// ReloadLogged is Reload for signals and watchers: the outcome goes to the log.
func (k *Keyring) ReloadLogged() {
	before := k.Status()
	switch err := k.Reload(); {
	case err != nil && (before.Err == nil || before.Err.Error() != err.Error()):
		k.log.Error().Err(err).Int("keys", before.Keys).Msg("key files not taken: the last good ones stay in force")
	case err == nil:
		k.log.Info().Int("keys", k.Status().Keys).Msg("key files read")
	}
}
