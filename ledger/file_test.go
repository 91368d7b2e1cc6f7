package ledger

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
)

// open opens a ledger of a fresh folder.
func open(t *testing.T, o Options) *Ledger {
	t.Helper()
	l, err := Open(o, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func closed(t *testing.T, l *Ledger) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// ids are the request ids of a file's lines, all of which must be complete.
func ids(t *testing.T, file string) (all []string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(file, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		t.Errorf("%s ends in the middle of a line", file)
	}
	for line := range bytes.Lines(text) {
		var rec Record
		if err := json.Unmarshal(line, &rec); err != nil {
			t.Errorf("%s: line %q: %v", file, line, err)
		}
		all = append(all, rec.RequestID)
	}
	return all
}

// Two ledgers, as of two processes, share a file that is put aside all the time.
func TestRotationLosesNoLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "usage.jsonl")
	const each, writers = 3000, 4
	var running sync.WaitGroup
	var ledgers []*Ledger
	logged := &lines{}
	for p := range 2 {
		l, err := Open(Options{File: file, MaxBytes: 40_000}, zerolog.New(logged))
		if err != nil {
			t.Fatal(err)
		}
		for w := range writers {
			running.Go(func() {
				for i := range each {
					l.Write(Record{RequestID: fmt.Sprintf("%d-%d-%d", p, w, i)})
					if i%500 == 0 {
						time.Sleep(30 * time.Millisecond)
					}
				}
			})
		}
		ledgers = append(ledgers, l)
	}
	running.Wait()
	for _, l := range ledgers {
		closed(t, l)
	}
	if n := logged.len(); n > 0 {
		t.Errorf("trouble was logged: %s", logged.buf.String())
	}
	seen := map[string]int{}
	files := Files(file)
	for i, name := range files {
		for _, id := range ids(t, name) {
			seen[id]++
		}
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		// A batch is written as a whole, and another process may add one of its own.
		if info.Size() > 40_000+3*flushSize {
			t.Errorf("%s has %d bytes", name, info.Size())
		}
		if i < len(files)-1 && filepath.Ext(name) != ".jsonl" {
			t.Errorf("%s is named unlike its file", name)
		}
	}
	if len(files) < 10 {
		t.Errorf("only %d files: too little was rotated", len(files))
	}
	if len(seen) != 2*writers*each {
		t.Errorf("%d different lines, want %d", len(seen), 2*writers*each)
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s is there %d times", id, n)
		}
	}
}

func TestOldFilesAreRemoved(t *testing.T) {
	file := filepath.Join(t.TempDir(), "usage.jsonl")
	other := filepath.Join(filepath.Dir(file), "usage-notes.jsonl")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, Options{File: file, MaxBytes: 1, Keep: 2})
	for i := range 5 {
		l.Write(Record{RequestID: fmt.Sprint(i)})
		time.Sleep(2 * flushAfter)
	}
	closed(t, l)
	var got []string
	for _, name := range Files(file) {
		got = append(got, ids(t, name)...)
	}
	if diff := cmp.Diff([]string{"2", "3", "4"}, got); diff != "" {
		t.Errorf("lines that are kept (-want +got):\n%s", diff)
	}
	if !exists(other) {
		t.Error("a file that is not the ledger's is gone")
	}
}

// logrotate moves the file away, and may tell weir or not.
func TestFileThatWasMovedAway(t *testing.T) {
	for _, told := range []bool{true, false} {
		t.Run(fmt.Sprintf("told %v", told), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "usage.jsonl")
			l := open(t, Options{File: file})
			l.Write(Record{RequestID: "before"})
			time.Sleep(2 * flushAfter)
			if err := os.Rename(file, file+".1"); err != nil {
				t.Fatal(err)
			}
			if told {
				l.Reopen()
				for deadline := time.Now().Add(5 * time.Second); !exists(file); time.Sleep(time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatal("the file was not made again")
					}
				}
			}
			l.Write(Record{RequestID: "after"})
			closed(t, l)
			if diff := cmp.Diff([][]string{{"before"}, {"after"}}, [][]string{ids(t, file+".1"), ids(t, file)}); diff != "" {
				t.Errorf("lines of both files (-want +got):\n%s", diff)
			}
		})
	}
}

// A process that was killed while it wrote has left half a line.
func TestTornLineStaysAlone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "usage.jsonl")
	if err := os.WriteFile(file, []byte(`{"request_id":"a"}`+"\n"+`{"request_`), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, Options{File: file})
	l.Write(Record{RequestID: "b"})
	closed(t, l)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) != 4 || lines[1] != `{"request_` || !strings.Contains(lines[2], `"request_id":"b"`) {
		t.Errorf("the file is %q", text)
	}
}

func TestOpenFails(t *testing.T) {
	if _, err := Open(Options{File: t.TempDir() + "/none/usage.jsonl"}, zerolog.Nop()); err == nil || !strings.Contains(err.Error(), "open ledger") {
		t.Errorf("error %v", err)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	want := []string{
		"usage.jsonl.10.gz", "usage.jsonl.2.gz", "usage.jsonl.1", "usage.jsonl-20261101.gz", "usage.jsonl-20261102",
		"usage-20261103T000000.000000Z.jsonl.gz", "usage-20261104T000000.000000Z.jsonl", "usage.jsonl",
	}
	for _, name := range append([]string{"usage.jsonl.bak", "usage-a.jsonl", "my-usage.jsonl"}, want...) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, name := range Files(filepath.Join(dir, "usage.jsonl")) {
		got = append(got, filepath.Base(name))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
