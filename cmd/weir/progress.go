package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/mattn/go-isatty"
)

// progress shows how far the reading of files is, on a terminal, once it takes long.
type progress struct {
	w           io.Writer // nil: silent
	name        string
	read, total int64 // bytes
	next        time.Time
	shown       bool
}

const (
	progressAfter = 500 * time.Millisecond
	progressEvery = 100 * time.Millisecond
)

func newProgress(w io.Writer, files []string) *progress {
	p := &progress{next: time.Now().Add(progressAfter)}
	if f, ok := w.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		p.w = w
	}
	for _, name := range files {
		if info, err := os.Stat(name); err == nil {
			p.total += info.Size()
		}
	}
	return p
}

// file says which file is read.
func (p *progress) file(name string) { p.name = filepath.Base(name) }

// add says that more was read, in bytes.
func (p *progress) add(n int) {
	p.read += int64(n)
	if now := time.Now(); p.w != nil && now.After(p.next) && p.total > 0 {
		p.next, p.shown = now.Add(progressEvery), true
		fmt.Fprintf(p.w, "\r\x1b[KReading %s: %d %% of %d MB", p.name, min(100, 100*p.read/p.total), p.total>>20)
	}
}

// clear takes the line away.
func (p *progress) clear() {
	if p.shown {
		p.shown = false
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
