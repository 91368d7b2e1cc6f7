package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/weir-gateway/weir/e2e/site"
	"github.com/weir-gateway/weir/ledger"
	"github.com/weir-gateway/weir/simulator"
)

// traffic sends requests, streamed and plain, until stop is closed. It returns when
// each was answered, by its id.
func (r *rig) traffic(stop <-chan struct{}) (answered map[string]time.Time) {
	var running sync.WaitGroup
	var mu sync.Mutex
	answered = map[string]time.Time{}
	for _, body := range []string{chat(), chat(`"stream":true`), chat(), chat(`"stream":true`)} {
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				got, err := r.try(r.t.Context(), http.MethodPost, "/v1/chat/completions", body)
				if err != nil || got.status != http.StatusOK {
					continue // weir is gone, or going
				}
				mu.Lock()
				answered[got.header.Get("x-request-id")] = time.Now()
				mu.Unlock()
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
	r := start(t, fixture{model: "tokens=3", ledger: ", max_bytes: 20000"})
	stop := make(chan struct{})
	file := filepath.Join(r.Dir, "usage.jsonl")
	go func() {
		defer close(stop)
		for _, to := range []string{".2", ".1"} {
			time.Sleep(400 * time.Millisecond)
			if err := os.Rename(file, file+to); err != nil {
				t.Error(err)
			}
			_ = r.Signal(syscall.SIGHUP)
		}
		time.Sleep(400 * time.Millisecond)
		_ = r.Signal(syscall.SIGTERM)
	}()
	answered := r.traffic(stop)
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
	if served < 100 || files < 5 {
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
	stop := make(chan struct{})
	var killed atomic.Int64
	go func() {
		defer close(stop)
		time.Sleep(1200 * time.Millisecond)
		killed.Store(time.Now().UnixNano())
		_ = r.Signal(syscall.SIGKILL)
	}()
	answered := r.traffic(stop)
	<-r.Done()
	lines, _ := r.written()
	// A tenth of a second, and what a busy machine may be late.
	const most = 100*time.Millisecond + 150*time.Millisecond
	at := time.Unix(0, killed.Load())
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
	if late > 0 || len(answered) < 100 {
		t.Errorf("of %d requests %d are missing that were answered more than %v before the end", len(answered), late, most)
	}
	if text, err := os.ReadFile(filepath.Join(r.Dir, "usage.jsonl")); err != nil || !strings.HasSuffix(string(text), "}\n") {
		t.Errorf("the ledger ends in the middle of a line: %v", err)
	}
}
