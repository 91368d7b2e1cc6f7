package keyring

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/rs/zerolog"

	"github.com/weir-gateway/weir/config"
)

// settle is how long a folder must be quiet before its files are read: editors
// and `kubectl apply` change a file in several steps.
const settle = 50 * time.Millisecond

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
	if len(k.files.Files) == 0 {
		<-ctx.Done()
		return nil
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch key files: %w", err)
	}
	defer w.Close()
	// Folders, not files: a file that is replaced by a rename is another file.
	for _, f := range slices.Concat(k.files.Files, []string{k.files.PepperFile}) {
		if f == "" {
			continue
		}
		if err := w.Add(filepath.Dir(f)); err != nil {
			return fmt.Errorf("watch %s: %w", filepath.Dir(f), err)
		}
	}
	return k.follow(ctx, w)
}

func (k *Keyring) follow(ctx context.Context, w *fsnotify.Watcher) error {
	quiet := time.NewTimer(0) // what changed while Open ran
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.Events:
			if !ok {
				return errors.New("watch key files: the watcher closed")
			}
			if !e.Has(fsnotify.Chmod) && k.concerns(e.Name) {
				quiet.Reset(settle)
			}
		case err, ok := <-w.Errors:
			if !ok {
				return errors.New("watch key files: the watcher closed")
			}
			k.log.Warn().Err(err).Msg("watching key files")
			quiet.Reset(settle)
		case <-quiet.C:
			k.ReloadLogged()
		}
	}
}

// concerns tells whether a change in a watched folder may be one of the key files:
// others, such as a ledger, may be written there all the time. Names that begin
// with two dots are how Kubernetes swaps a mounted folder's content.
func (k *Keyring) concerns(changed string) bool {
	name := filepath.Base(changed)
	if strings.HasPrefix(name, "..") {
		return true
	}
	for _, f := range slices.Concat(k.files.Files, []string{k.files.PepperFile}) {
		if name == filepath.Base(f) {
			return true
		}
	}
	return false
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
