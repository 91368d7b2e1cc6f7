package ledger

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxLine is the longest line that is read, in bytes.
const maxLine = 64 << 10

// BrokenLine is a line that is none of a ledger.
type BrokenLine struct {
	File string
	Line int  // from 1
	Cut  bool // it ends too soon, as when a process was killed while it wrote
	Err  error
}

// Error says which line it is, and what is wrong with it.
func (b *BrokenLine) Error() string {
	if b.Cut {
		return fmt.Sprintf("%s:%d: the line is cut off, as when a process is killed while it writes; it was left out", b.File, b.Line)
	}
	return fmt.Sprintf("%s:%d: this is no line of a usage ledger; it was left out: %v", b.File, b.Line, b.Err)
}

// Unwrap is what is wrong with the line.
func (b *BrokenLine) Unwrap() error { return b.Err }

// ReadFile reads a ledger's file, or one that was compressed with gzip. See Read. read
// is told how many bytes of the file were read.
func ReadFile(name string, each func(*Record) error, broken func(*BrokenLine), read func(n int)) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("read ledger: %w", err)
	}
	defer f.Close()
	var r io.Reader = &told{f, read}
	if strings.HasSuffix(name, ".gz") {
		if r, err = gzip.NewReader(r); err != nil {
			return fmt.Errorf("read ledger: %s: %w", name, err)
		}
	}
	return Read(r, name, each, broken)
}

// told tells how much was read.
type told struct {
	io.Reader
	read func(n int)
}

func (t *told) Read(p []byte) (int, error) {
	n, err := t.Reader.Read(p)
	t.read(n)
	return n, err
}

// Read calls each with every record of a ledger, valid until it returns, and broken
// with lines that are none. A last line without an end is left out: it may be being
// written. It fails if reading does, or if each does.
func Read(r io.Reader, name string, each func(*Record) error, broken func(*BrokenLine)) error {
	lines := bufio.NewReaderSize(r, maxLine)
	var rec Record
	for n := 1; ; n++ {
		line, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
			broken(&BrokenLine{File: name, Line: n, Err: fmt.Errorf("it is longer than %d bytes", maxLine)})
			if err = skipLine(lines); err == nil {
				continue
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
		}
		if err != nil {
			return fmt.Errorf("read ledger: %s: %w", name, err)
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if b := parse(line, &rec); b != nil {
			b.File, b.Line = name, n
			broken(b)
			continue
		}
		if err := each(&rec); err != nil {
			return err
		}
	}
}

func skipLine(r *bufio.Reader) error {
	for {
		if _, err := r.ReadSlice('\n'); !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

func parse(line []byte, rec *Record) *BrokenLine {
	*rec = Record{}
	if err := json.Unmarshal(line, rec); err != nil {
		return &BrokenLine{Err: err, Cut: line[0] == '{' && err.Error() == "unexpected end of JSON input"}
	}
	if rec.Time.IsZero() {
		return &BrokenLine{Err: errors.New("it has no time")}
	}
	return nil
}
