package ledger

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
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
	l, err := Open(Options{File: file}, zerolog.Nop())
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

// fullDisk has room for so many bytes.
type fullDisk struct {
	mu   sync.Mutex
	room int
	buf  bytes.Buffer
}

func (d *fullDisk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := min(d.room, len(p))
	d.room -= n
	d.buf.Write(p[:n])
	if n < len(p) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}

func (d *fullDisk) Close() error { return nil }

func (d *fullDisk) free(room int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room = room
}

// The disk is full in the middle of a line, and again in the middle of the next.
func TestAFullDiskIsSaidOnceAndLosesNothing(t *testing.T) {
	disk, logged := &fullDisk{room: 100}, &lines{}
	l := New(disk, zerolog.New(logged))
	l.Write(Record{RequestID: "torn"})
	logged.wait(t, 1)
	l.Write(Record{RequestID: "waits"})
	time.Sleep(3 * flushAfter)
	disk.free(400)
	time.Sleep(3 * flushAfter)
	disk.free(1 << 20)
	l.Write(Record{RequestID: "last"})
	logged.wait(t, 2)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n := logged.len(); n != 2 {
		t.Errorf("%d log lines, want one when it failed and one when it worked again", n)
	}
	var got []string
	for line := range bytes.Lines(disk.buf.Bytes()) {
		var r Record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Errorf("line %q: %v", line, err)
		}
		got = append(got, r.RequestID)
	}
	if diff := cmp.Diff([]string{"torn", "waits", "last"}, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// What waits for a disk is bounded: then lines are lost, and counted. The callers
// never wait for it.
func TestADiskThatStaysFull(t *testing.T) {
	disk, logged := &fullDisk{}, &lines{}
	l := New(disk, zerolog.New(logged))
	long := strings.Repeat("x", 64<<10)
	const n = 2 * backlog / (64 << 10)
	for range n {
		l.Write(Record{RequestID: long})
	}
	for deadline := time.Now().Add(10 * time.Second); l.Lost() < n/2; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d lines are lost of %d", l.Lost(), n)
		}
	}
	if err := l.Close(); err == nil || !strings.Contains(err.Error(), "could not be written") {
		t.Errorf("error %v at the end", err)
	}
	if n := logged.len(); n != 1 {
		t.Errorf("%d log lines, want 1", n)
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
