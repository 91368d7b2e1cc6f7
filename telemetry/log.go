package telemetry

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
)

// NewLogger returns a logger that writes to w: JSON for programs, colours on a
// terminal. format is auto, json or pretty; level is one of zerolog's. What flush has not
// written may be lost; see Lines.
func NewLogger(w io.Writer, level, format string) (log zerolog.Logger, flush func() error, err error) {
	lvl, err := zerolog.ParseLevel(level)
	if err != nil || level == "" {
		return zerolog.Nop(), nil, fmt.Errorf("log level %q: want trace, debug, info, warn or error", level)
	}
	lines := NewLines(w)
	w = lines
	switch format {
	case "auto":
		f, ok := lines.w.(*os.File)
		if ok && isatty.IsTerminal(f.Fd()) {
			w = console(w)
		}
	case "pretty":
		w = console(w)
	case "json":
	default:
		return zerolog.Nop(), nil, fmt.Errorf("log format %q: want auto, json or pretty", format)
	}
	return zerolog.New(w).Level(lvl).With().Timestamp().Logger(), lines.Flush, nil
}

func console(w io.Writer) io.Writer {
	return zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly}
}
