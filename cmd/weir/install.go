package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// installCmd is weir install.
type installCmd struct {
	Dir string `arg:"" type:"path" help:"Folder that the copy is put into, as weir."`
}

// Run copies the running program. Images without a shell cannot do it otherwise, and
// whoever stops an Envoy in a container of its own needs weir drain there.
func (c *installCmd) Run(*env) (err error) {
	own, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	from, err := os.Open(own)
	if err != nil {
		return fmt.Errorf("read this program: %w", err)
	}
	defer from.Close()
	to, err := os.CreateTemp(c.Dir, ".weir-*")
	if err != nil {
		return fmt.Errorf("copy this program: %w", err)
	}
	defer os.Remove(to.Name()) // of no effect after the rename
	_, err = io.Copy(to, from)
	if err = errors.Join(err, to.Chmod(0o755), to.Close()); err == nil {
		err = os.Rename(to.Name(), filepath.Join(c.Dir, "weir"))
	}
	if err != nil {
		return fmt.Errorf("copy this program: %w", err)
	}
	return nil
}
