package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weir-gateway/weir/e2e/site"
	"github.com/weir-gateway/weir/ledger"
	"github.com/weir-gateway/weir/simulator"
)

// answersAStep is after how many answers the next thing happens to weir.
const answersAStep = 300

// traffic sends requests, streamed and plain, and takes a step after each so many
// answers, until the last. It returns when each request was answered, by its id.
func (r *rig) traffic(steps ...func()) (answered map[string]time.Time) {
	var running sync.WaitGroup
	var mu sync.Mutex
	answered = map[string]time.Time{}
	ctx, stop := context.WithTimeout(r.t.Context(), time.Minute)
	defer stop()
	note := func(id string) {
		mu.Lock()
		defer mu.Unlock()
		answered[id] = time.Now()
		if len(answered)%answersAStep == 0 && len(steps) > 0 {
			steps[0]()
			if steps = steps[1:]; len(steps) == 0 {
				stop()
			}
		}
	}
	for _, body := range []string{chat(), chat(`"stream":true`), chat(), chat(`"stream":true`)} {
		running.Go(func() {
			for ctx.Err() == nil {
				got, err := r.try(r.t.Context(), http.MethodPost, "/v1/chat/completions", body)
				if err == nil && got.status == http.StatusOK {
					note(got.header.Get("x-request-id"))
				}
			}
		})
	}
	running.Wait()
	return answered
}

// written are how many lines each request has, over all files of the ledger.
func (r *rig) written() (lines map[string]int, files int) {
	r.t.Helper()
	lines = map[string]int{}
	names := ledger.Files(filepath.Join(r.Dir, "usage.jsonl"))
	for _, name := range names {
		err := site.Lines(name, func(line []byte) error {
			var rec ledger.Record
			err := json.Unmarshal(line, &rec)
			lines[rec.RequestID]++
			return err
		})
		if err != nil {
			r.t.Errorf("%s: %v", name, err)
		}
	}
	return lines, len(names)
}

// TestLedgerLosesNothing stops weir under traffic: what reached the upstream has
// exactly one line, though the file is put aside all the time, by weir and by
// logrotate with its SIGHUP.
func TestLedgerLosesNothing(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{model: "tokens=3", ledger: ", max_bytes: 10000"})
	file := filepath.Join(r.Dir, "usage.jsonl")
	moveTo := func(name string) func() {
		return func() {
			if err := os.Rename(file, name); err != nil && !errors.Is(err, fs.ErrNotExist) { // it may just be put aside
				t.Error(err)
			}
			_ = r.Signal(syscall.SIGHUP)
		}
	}
	answered := r.traffic(moveTo(file+".2"), moveTo(file+".1"), func() { _ = r.Signal(syscall.SIGTERM) })
	<-r.Done()
	lines, files := r.written()
	served := 0
	for _, e := range r.sim.Ledger().Entries() {
		if e.Outcome == simulator.OutcomeRefused {
			continue
		}
		served++
		if n := lines[e.RequestID]; n != 1 {
			t.Errorf("request %s has %d lines, and was %s at the upstream", e.RequestID, n, e.Outcome)
		}
	}
	t.Logf("%d requests answered, %d served, %d lines in %d files", len(answered), served, len(lines), files)
	if served < 3*answersAStep || files < 5 {
		t.Errorf("%d requests in %d files: the test shows little", served, files)
	}
	r.usageSums(len(lines))
}

// usageSums has weir usage read all that was written.
func (r *rig) usageSums(requests int) {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), binary, "usage", "-o", "json")
	cmd.Dir = r.Dir
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatal(err)
	}
	var sums struct{ Total struct{ Requests int } }
	if err := json.Unmarshal(out, &sums); err != nil || sums.Total.Requests != requests {
		r.t.Errorf("weir usage tells of %d requests, want %d (%v)", sums.Total.Requests, requests, err)
	}
}

// TestLedgerOfAKilledWeir kills weir under traffic: at most what was answered in the
// last tenth of a second is missing, and what is there is whole.
func TestLedgerOfAKilledWeir(t *testing.T) {
	t.Parallel()
	r := start(t, fixture{model: "tokens=3", killed: true})
	var at time.Time
	answered := r.traffic(func() {}, func() {
		at = time.Now()
		_ = r.Signal(syscall.SIGKILL)
	})
	<-r.Done()
	lines, _ := r.written()
	// A tenth of a second, and what a busy machine may be late.
	const most = 100*time.Millisecond + 150*time.Millisecond
	var missing, late int
	for id, when := range answered {
		switch {
		case lines[id] == 1:
		case at.Sub(when) > most:
			late++
		default:
			missing++
		}
	}
	t.Logf("%d requests answered, %d lines; %d of the last %v are missing", len(answered), len(lines), missing, most)
	if late > 0 || len(lines) == 0 {
		t.Errorf("of %d requests %d are missing that were answered more than %v before the end", len(answered), late, most)
	}
	if text, err := os.ReadFile(filepath.Join(r.Dir, "usage.jsonl")); err != nil || !strings.HasSuffix(string(text), "}\n") {
		t.Errorf("the ledger ends in the middle of a line: %v", err)
	}
}
