// Package watch tells when files change.
package watch

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/rs/zerolog"
)

// Settle is how long a folder must be quiet before its files are read: editors
// and `kubectl apply` change a file in several steps.
const Settle = 50 * time.Millisecond

// Poll is how often the files are looked at besides. Some changes are told by nobody:
// those on network file systems, those of a folder mounted anew, and those behind a
// symbolic link that leads elsewhere.
const Poll = 300 * time.Millisecond

// Files calls changed once at its start, for what changed since the files were
// read, and whenever one of them has changed, until ctx ends.
func Files(ctx context.Context, files []string, log zerolog.Logger, changed func()) error {
	if len(files) == 0 {
		<-ctx.Done()
		return nil
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch files: %w", err)
	}
	defer w.Close()
	// Folders, not files: a file that is replaced by a rename is another file.
	for _, f := range files {
		if err := w.Add(filepath.Dir(f)); err != nil {
			return fmt.Errorf("watch %s: %w", filepath.Dir(f), err)
		}
	}
	quiet := time.NewTimer(0)
	defer quiet.Stop()
	poll := time.NewTimer(nextPoll())
	defer poll.Stop()
	seen := looks(files)
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.Events:
			if !ok {
				return errors.New("watch files: the watcher closed")
			}
			if !e.Has(fsnotify.Chmod) && concerns(files, e.Name) {
				quiet.Reset(Settle)
			}
		case err, ok := <-w.Errors:
			if !ok {
				return errors.New("watch files: the watcher closed")
			}
			log.Warn().Err(err).Msg("watching files")
			quiet.Reset(Settle)
		case <-poll.C:
			poll.Reset(nextPoll())
			if now := looks(files); !slices.Equal(now, seen) {
				seen = now
				quiet.Reset(Settle)
			}
		case <-quiet.C:
			seen = looks(files)
			changed()
		}
	}
}

// nextPoll is how long it is to the next poll. All files are looked at in the same moment, so
// that a process that has nothing to do wakes up once for all of them.
func nextPoll() time.Duration {
	now := time.Now()
	return now.Truncate(Poll).Add(Poll).Sub(now)
}

// concerns tells whether a change in a watched folder may be of one of the files:
// others, such as a ledger, may be written there all the time. Names that begin
// with two dots are how Kubernetes swaps a mounted folder's content.
func concerns(files []string, changed string) bool {
	name := filepath.Base(changed)
	if strings.HasPrefix(name, "..") {
		return true
	}
	for _, f := range files {
		if name == filepath.Base(f) {
			return true
		}
	}
	return false
}
