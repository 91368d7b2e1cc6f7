package keyfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/weir-gateway/weir/config"
	configv1 "github.com/weir-gateway/weir/proto/weir/config/v1"
)

// Errors that callers tell apart.
var (
	ErrNoKey     = errors.New("there is no such key")
	ErrOlderJSON = errors.New("it is in the older JSON format, which weir reads and does not write: weir keys import makes weir's own of it")
)

// Read returns the keys of a file in weir's format. One that does not exist has none.
func Read(file string) ([]*configv1.Key, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	return parse(file, text)
}

func parse(file string, text []byte) ([]*configv1.Key, error) {
	if IsOlderJSON(text) {
		return nil, fmt.Errorf("%s: %w", file, ErrOlderJSON)
	}
	var root yaml.Node
	if yaml.Unmarshal(text, &root) == nil && (len(root.Content) == 0 || isNull(find(&root))) {
		return nil, nil // nothing, or "keys:" and nothing more
	}
	msg, err := config.ParseKeyFile(file, text, nil)
	return msg.GetKeys(), err
}

func isNull(n *yaml.Node) bool { return n != nil && n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// IsOlderJSON tells whether a key file is in the format of older gateways.
func IsOlderJSON(text []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) }

// Add appends keys. The file is made, for its owner alone, if there is none.
func Add(file string, keys ...*configv1.Key) error {
	return change(file, true, func(d *document) error {
		for _, k := range keys {
			if err := d.add(k); err != nil {
				return err
			}
		}
		return nil
	})
}

// Change has edit change the key of that id. It fails with [ErrNoKey] if the file has
// none. The key that edit is given may be changed in place.
func Change(file, id string, edit func(*configv1.Key) error) error {
	return change(file, false, func(d *document) error { return d.change(id, edit) })
}

// change edits a file under its lock.
func change(file string, create bool, edit func(*document) error) (err error) {
	file, err = target(file)
	if err != nil {
		return fmt.Errorf("change %s: %w", file, err)
	}
	f, made, err := lock(file, create)
	if err != nil {
		return fmt.Errorf("change %s: %w", file, err)
	}
	defer f.Close() // which unlocks
	defer func() {
		if err != nil && made && isStill(file, f) { // an empty key file would be a mistake
			_ = os.Remove(file)
		}
	}()
	text, err := io.ReadAll(f)
	if err != nil {
		return fmt.Errorf("change %s: %w", file, err)
	}
	d := &document{file: file, text: text}
	if d.keys, err = parse(file, text); err != nil {
		return err
	}
	if err := edit(d); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("change %s: %w", file, err)
	}
	if err := replace(file, d.text, info); err != nil {
		return fmt.Errorf("change %s: %w", file, err)
	}
	return nil
}

// target is the file behind all symbolic links: it is replaced, not the link to it.
func target(file string) (string, error) {
	behind, err := filepath.EvalSymlinks(file)
	if err == nil {
		return behind, nil
	}
	if info, lerr := os.Lstat(file); lerr == nil && info.Mode()&os.ModeSymlink != 0 {
		return file, fmt.Errorf("it is a symbolic link that leads nowhere: %w", err)
	}
	return file, nil // there is none yet
}

// lockWait bounds how long another's change is waited for.
const lockWait = 10 * time.Second

// lock opens a file and locks it against other changes by weir. Closing it unlocks it.
// made tells that there was no file.
func lock(file string, create bool) (f *os.File, made bool, err error) {
	deadline := time.Now().Add(lockWait)
	for {
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		made := errors.Is(err, fs.ErrNotExist) && create
		if made {
			f, err = os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
			if errors.Is(err, fs.ErrExist) {
				continue // another was faster
			}
		}
		if err != nil {
			return nil, false, err
		}
		if err := flock(f, deadline); err != nil {
			return nil, false, errors.Join(err, f.Close())
		}
		if isStill(file, f) {
			return f, made, nil
		}
		_ = f.Close() // while this one waited another has put a new file in its place
	}
}

func isStill(file string, f *os.File) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	now, err := os.Stat(file)
	return err == nil && os.SameFile(mine, now)
}

// flock takes the lock when it is free. It is asked for again and again, as a wait in
// the kernel has no end.
func flock(f *os.File, deadline time.Time) error {
	const pause = 5 * time.Millisecond
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return err
		case time.Now().After(deadline):
			return fmt.Errorf("another process has held its lock for %v", lockWait)
		default:
			time.Sleep(pause)
		}
	}
}

// replace puts a complete file into the place of another, with its mode and its owner.
func replace(file string, text []byte, like os.FileInfo) error {
	temp, err := os.CreateTemp(filepath.Dir(file), ".keys-*") // for its owner alone
	if err != nil {
		return err
	}
	if err := errors.Join(fill(temp, text, like), temp.Close()); err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	if err := os.Rename(temp.Name(), file); err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return syncDir(filepath.Dir(file))
}

func fill(temp *os.File, text []byte, like os.FileInfo) error {
	if _, err := temp.Write(text); err != nil {
		return err
	}
	if err := keepOwner(temp, like); err != nil {
		return err
	}
	if err := temp.Chmod(like.Mode().Perm()); err != nil {
		return err
	}
	return temp.Sync()
}

func keepOwner(temp *os.File, like os.FileInfo) error {
	now, err := temp.Stat()
	if err != nil {
		return err
	}
	want, ok := like.Sys().(*syscall.Stat_t)
	have, too := now.Sys().(*syscall.Stat_t)
	if !ok || !too || want.Uid == have.Uid && want.Gid == have.Gid {
		return nil
	}
	if err := temp.Chown(int(want.Uid), int(want.Gid)); err != nil {
		return fmt.Errorf("the file would get another owner, which its readers may not like: run this as its owner (%w)", err)
	}
	return nil
}

// syncDir makes a rename last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // which some file systems do not know
		return fmt.Errorf("it is written, and may not outlive a crash of the machine: %w", err)
	}
	return nil
}
