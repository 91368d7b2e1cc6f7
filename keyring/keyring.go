package keyring

import (
	"context"
	"fmt"
	"slices"
	"strings"
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

	mu     sync.Mutex // serialises Reload; guards status and warned
	status Status
	warned []string // of the files in force
}

// Status tells how the files were last read.
type Status struct {
	Loaded time.Time // when the ring in force was read
	Keys   int
	Err    error // why the newest state of the files is not in force; nil when it is
}

// Open reads the files. Unlike later, a mistake in them is an error now.
func Open(files config.Keys, log zerolog.Logger) (*Keyring, error) {
	k := Unread(files, log)
	return k, k.Reload(false)
}

// Unread returns a keyring of those files that has read nothing yet.
func Unread(files config.Keys, log zerolog.Logger) *Keyring {
	k := &Keyring{files: files, log: log}
	k.ring.Store(emptyRing(nil))
	return k
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

// Files says where the keys come from.
func (k *Keyring) Files() config.Keys { return k.files }

// Status tells how the files were last read.
func (k *Keyring) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.status
}

// Reload reads all files and, if they are without mistake, puts them in force. Unless
// it is forced it fails with a [VanishedError] where too many keys are gone.
func (k *Keyring) Reload(force bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.files.Files) == 0 {
		return nil // fixed
	}
	ring, warnings, err := load(k.files)
	for _, w := range warnings {
		if !slices.Contains(k.warned, w) { // once, as long as it is so
			k.log.Warn().Msg(w)
		}
	}
	if err == nil {
		k.warned = warnings
	}
	if err == nil && !force {
		err = plausible(k.ring.Load(), ring, k.files.Files)
	}
	k.status.Err = err
	if err != nil {
		return err
	}
	before := k.ring.Swap(ring)
	if !k.status.Loaded.IsZero() {
		changesOf(before, ring).log(k.log)
	}
	k.status.Loaded, k.status.Keys = time.Now(), ring.Len()
	return nil
}

// VanishedError says that so many keys are gone that it must be a mistake.
type VanishedError struct {
	Files    []string
	Gone, Of int // keys that could be used
}

// Error says what to do if it is none.
func (e *VanishedError) Error() string {
	return fmt.Sprintf("%s: %d of the %d keys in use are gone, more than half; if that is meant: weir keys reload --force, or SIGHUP twice within a minute; "+
		"to take keys out of use one by one: weir keys revoke", strings.Join(e.Files, ", "), e.Gone, e.Of)
}

// plausible tells whether next may follow on now. A file that was cut at the end of a
// line is one without mistake. A single key that makes place for others is not cut.
func plausible(now, next *Ring, files []string) error {
	if gone, of := now.vanished(next, time.Now()); gone > 1 && 2*gone > of {
		return &VanishedError{files, gone, of}
	}
	return nil
}

// Watch reloads when a file changes, until ctx ends.
func (k *Keyring) Watch(ctx context.Context) error {
	files := slices.Clone(k.files.Files)
	if k.files.PepperFile != "" && len(files) > 0 {
		files = append(files, k.files.PepperFile)
	}
	return watch.Files(ctx, files, k.log, func() { k.ReloadLogged(false) })
}

// ReloadLogged is Reload for signals and watchers: the outcome goes to the log.
func (k *Keyring) ReloadLogged(force bool) {
	before := k.Status()
	switch err := k.Reload(force); {
	case err != nil && (before.Err == nil || before.Err.Error() != err.Error()):
		k.log.Error().Err(err).Int("keys", before.Keys).Msg("key files not taken: the last good ones stay in force")
	case err == nil:
		k.log.Info().Int("keys", k.Status().Keys).Bool("forced", force).Msg("key files read")
	}
}
