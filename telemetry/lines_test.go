package telemetry

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// slowFile takes a while for each write, and remembers how many there were.
type slowFile struct {
	mu     sync.Mutex
	text   bytes.Buffer
	writes int
}

func (f *slowFile) Write(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes++
	return f.text.Write(p)
}

func (f *slowFile) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text.String()
}

func TestLinesWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := &slowFile{}
		log := zerolog.New(NewLines(file).Patient())
		log.Info().Msg("one")
		log.Debug().Msg("two")
		synctest.Wait()
		if file.String() != "" {
			t.Errorf("written at once: %s", file)
		}
		time.Sleep(2 * lineWait)
		synctest.Wait()
		if lines := strings.Count(file.String(), "\n"); lines != 2 || file.writes != 1 {
			t.Errorf("%d lines in %d writes after %v", lines, file.writes, 2*lineWait)
		}
		// What waits is not overtaken.
		log.Info().Msg("three")
		log.Warn().Msg("four")
		log.Info().Msg("five")
		if got := file.String(); strings.Contains(got, "five") || !strings.HasSuffix(got, `{"level":"info","message":"three"}`+"\n"+`{"level":"warn","message":"four"}`+"\n") {
			t.Errorf("after a warning: %s", got)
		}
		time.Sleep(2 * lineWait)
		synctest.Wait()
		if !strings.Contains(file.String(), "five") {
			t.Errorf("the timer was not set again: %s", file)
		}
	})
}

func TestLinesBeyondTheRoomAreWritten(t *testing.T) {
	file := &slowFile{}
	log := zerolog.New(NewLines(file).Patient())
	log.Info().Str("long", strings.Repeat("x", lineRoom)).Send()
	if n := len(file.String()); n < lineRoom {
		t.Errorf("%d bytes written", n)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestLinesTellOfFailures(t *testing.T) {
	l := NewLines(fullDisk{})
	if _, err := l.Patient().WriteLevel(zerolog.InfoLevel, []byte("one\n")); err != nil {
		t.Errorf("a line that waits: %v", err)
	}
	if _, err := l.Patient().WriteLevel(zerolog.ErrorLevel, []byte("two\n")); err == nil {
		t.Error("an error that could not be written is taken for written")
	}
	if _, err := l.Write([]byte("three\n")); err == nil {
		t.Error("a line that could not be written is taken for written")
	}
	if err := l.Flush(); err != nil {
		t.Errorf("what could not be written still waits: %v", err)
	}
}

func TestLinesFromManySides(t *testing.T) {
	file := &slowFile{}
	l := NewLines(file)
	log := zerolog.New(l.Patient())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range 200 {
				log.WithLevel([]zerolog.Level{zerolog.InfoLevel, zerolog.WarnLevel}[k%50/49]).Int("from", i).Int("n", k).Send()
			}
		})
	}
	wg.Wait()
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	next := map[string]int{}
	for line := range strings.Lines(file.String()) {
		_, rest, _ := strings.Cut(line, `"from":`)
		from, _, _ := strings.Cut(rest, ",")
		if want := fmt.Sprintf("\"n\":%d}\n", next[from]); !strings.HasSuffix(line, want) {
			t.Fatalf("%q, want %s", line, want)
		}
		next[from]++
	}
	for i := range 8 {
		if n := next[fmt.Sprint(i)]; n != 200 {
			t.Errorf("%d lines of %d", n, i)
		}
	}
}
