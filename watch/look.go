package watch

import (
	"os"
	"syscall"
	"time"
)

// look is how a file looks from outside, behind all symbolic links; the zero value
// where there is none.
type look struct {
	device, inode uint64
	size          int64
	modified      time.Time
}

func looks(files []string) []look {
	list := make([]look, len(files))
	for i, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			continue
		}
		list[i] = look{size: info.Size(), modified: info.ModTime()}
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			list[i].device, list[i].inode = uint64(s.Dev), s.Ino //nolint:unconvert // Dev is signed on some systems
		}
	}
	return list
}
