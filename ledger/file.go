package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// stamp is the time at which a file was put aside, in its name: usage.jsonl becomes
// usage-20261124T120000.000000Z.jsonl. Names in their order are in that of time.
const stamp = "20060102T150405.000000Z"

// file is a ledger's file. It stays the file of its name: if that was moved away, by
// logrotate or another process with the same ledger, it is made again.
type file struct {
	Options
	log  zerolog.Logger
	f    *os.File
	info fs.FileInfo // of f
	torn bool        // the last line of f is not complete, and its rest comes next
}

func openFile(o Options, log zerolog.Logger) (*file, error) {
	f := &file{Options: o, log: log}
	if err := f.open(); err != nil {
		return nil, err
	}
	if err := f.endLine(); err != nil {
		return nil, errors.Join(fmt.Errorf("open ledger: %w", err), f.f.Close())
	}
	return f, nil
}

// open opens the file of that name. If it fails the one that was open before stays.
func (f *file) open() error {
	opened, err := os.OpenFile(f.File, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open ledger: %w", err)
	}
	info, err := opened.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("open ledger: %w", err), opened.Close())
	}
	if f.f != nil {
		err = f.f.Close()
	}
	f.f, f.info = opened, info
	return err
}

// endLine ends a line that a process did not live to end, so that the next one is
// not lost with it.
func (f *file) endLine() error {
	if !f.info.Mode().IsRegular() || f.info.Size() == 0 {
		return nil
	}
	r, err := os.Open(f.File)
	if err != nil {
		return nil //nolint:nilerr // it may be written but not read
	}
	defer r.Close()
	var last [1]byte
	if _, err := r.ReadAt(last[:], f.info.Size()-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err = f.f.Write([]byte{'\n'})
	return err
}

// Write appends whole lines, or, after it has failed, the rest of them. It returns how
// many bytes were written.
func (f *file) Write(lines []byte) (n int, err error) {
	if f.torn {
		end := bytes.IndexByte(lines, '\n') + 1
		if n, err = f.append(lines[:end]); err != nil || n == len(lines) {
			return n, err
		}
	}
	if err := f.follow(int64(len(lines) - n)); err != nil {
		return n, err
	}
	more, err := f.append(lines[n:])
	return n + more, err
}

func (f *file) append(p []byte) (n int, err error) {
	n, err = f.f.Write(p)
	f.torn = n < len(p) && (n > 0 && p[n-1] != '\n' || n == 0 && f.torn)
	return n, err
}

// follow sees to it that more bytes go to the file of that name, and that it does not
// grow too large.
func (f *file) follow(more int64) error {
	info, err := os.Stat(f.File)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(info, f.info):
		return f.open()
	case err != nil:
		return fmt.Errorf("look at the ledger: %w", err)
	case f.MaxBytes > 0 && info.Mode().IsRegular() && info.Size() > 0 && info.Size()+more > f.MaxBytes:
		return f.rotate()
	}
	return nil
}

// reopen opens the file of that name, in any case.
func (f *file) reopen() {
	if f.torn {
		return // follow does it when the line is complete
	}
	if err := f.open(); err != nil {
		f.log.Error().Err(err).Msg("the usage ledger cannot be opened again: the old file is still written to")
	}
}

// rotate puts the file aside and begins another.
func (f *file) rotate() error {
	name := asideName(f.File, time.Now())
	for ; exists(name); name = asideName(f.File, time.Now()) {
		time.Sleep(time.Microsecond)
	}
	// Another process may have put it aside at the same moment.
	if err := os.Rename(f.File, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("put the ledger's file aside: %w", err)
	}
	if err := f.open(); err != nil {
		return err
	}
	f.prune()
	return nil
}

// prune removes the oldest of the files that were put aside.
func (f *file) prune() {
	if f.Keep == 0 {
		return
	}
	aside := asideFiles(f.File)
	for _, old := range aside[:max(0, len(aside)-f.Keep)] {
		if err := os.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.log.Error().Err(err).Msg("an old file of the usage ledger cannot be removed")
		}
	}
}

// Close closes the file.
func (f *file) Close() error { return f.f.Close() }

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

func asideName(file string, at time.Time) string {
	ext := filepath.Ext(file)
	return strings.TrimSuffix(file, ext) + "-" + at.UTC().Format(stamp) + ext
}

// asideFiles are the files that were put aside, compressed since or not, the oldest
// first.
func asideFiles(file string) []string {
	ext := filepath.Ext(file)
	base := filepath.Base(strings.TrimSuffix(file, ext))
	return siblings(file, "^"+regexp.QuoteMeta(base)+`-\d{8}T\d{6}\.\d{6}Z`+regexp.QuoteMeta(ext)+`(\.gz)?$`)
}

// siblings are the files in a file's folder whose names match, in their order.
func siblings(file, pattern string) (found []string) {
	dir := filepath.Dir(file)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // then there is no such file either
	}
	re := regexp.MustCompile(pattern)
	for _, e := range entries {
		if re.MatchString(e.Name()) && !e.IsDir() {
			found = append(found, filepath.Join(dir, e.Name()))
		}
	}
	slices.Sort(found)
	return found
}
