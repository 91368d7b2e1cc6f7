package ledger

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEveryRecordIsALine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "usage.jsonl")
	if err := os.WriteFile(file, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Open(file, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	want := Record{
		Time: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), RequestID: "r", KeyID: "k", Endpoint: "chat_completions",
		Status: 200, Outcome: OK, Source: Exact, Tokens: Tokens{Input: 3, Output: 4},
	}
	const n = 20_000
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range n / 4 {
				l.Write(want)
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	if len(lines) != n+1 {
		t.Fatalf("%d lines, want the one there was and %d", len(lines), n)
	}
	var got Record
	if err := json.Unmarshal(lines[n], &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("last line (-want +got):\n%s", diff)
	}
}

// fullDisk fails until it is freed.
type fullDisk struct {
	mu   sync.Mutex
	free bool
	buf  bytes.Buffer
}

func (d *fullDisk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.free {
		return 0, errors.New("no space left on device")
	}
	return d.buf.Write(p)
}

func (d *fullDisk) Close() error { return nil }

func (d *fullDisk) setFree() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free = true
}

func TestAFullDiskIsSaidOnceAndSurvived(t *testing.T) {
	disk, logged := &fullDisk{}, &lines{}
	l := New(disk, zerolog.New(logged))
	l.Write(Record{RequestID: "lost"})
	logged.wait(t, 1)
	l.Write(Record{RequestID: "lost too"})
	time.Sleep(3 * flushEvery)
	disk.setFree()
	l.Write(Record{RequestID: "kept"})
	logged.wait(t, 2)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n := logged.len(); n != 2 {
		t.Errorf("%d log lines, want one when it failed and one when it worked again", n)
	}
	if !bytes.Contains(disk.buf.Bytes(), []byte(`"kept"`)) {
		t.Errorf("the line after the disk had room is missing: %q", disk.buf.String())
	}
}

func TestNilDiscards(t *testing.T) {
	var l *Ledger
	l.Write(Record{})
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// lines counts log lines.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) len() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := bufio.NewScanner(bytes.NewReader(l.buf.Bytes())); s.Scan(); {
		n++
	}
	return n
}

func (l *lines) wait(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); l.len() < n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d log lines, want %d", l.len(), n)
		}
	}
}
