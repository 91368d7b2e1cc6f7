package telemetry

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
)

// Log is what a process says.
type Log struct {
	zerolog.Logger
	// Requests is for the lines that each request has: they may wait a moment for each other,
	// those of a program's log. Flush writes what waits.
	Requests zerolog.Logger
	Flush    func() error
}

// NewLogger returns a log that goes to w: JSON for programs, colours on a
// terminal. format is auto, json or pretty; level is one of zerolog's.
func NewLogger(w io.Writer, level, format string) (*Log, error) {
	lvl, err := zerolog.ParseLevel(level)
	if err != nil || level == "" {
		return nil, fmt.Errorf("log level %q: want trace, debug, info, warn or error", level)
	}
	pretty := format == "pretty"
	switch format {
	case "auto":
		f, ok := w.(*os.File)
		pretty = ok && isatty.IsTerminal(f.Fd())
	case "pretty", "json":
	default:
		return nil, fmt.Errorf("log format %q: want auto, json or pretty", format)
	}
	logger := func(w io.Writer) zerolog.Logger { return zerolog.New(w).Level(lvl).With().Timestamp().Logger() }
	lines := NewLines(w)
	if pretty {
		log := logger(zerolog.ConsoleWriter{Out: lines, TimeFormat: time.TimeOnly})
		return &Log{log, log, lines.Flush}, nil
	}
	return &Log{logger(lines), logger(lines.Patient()), lines.Flush}, nil
}
