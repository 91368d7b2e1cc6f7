package main

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestBusyTime(t *testing.T) {
	// user nice system idle iowait irq softirq steal guest guest_nice
	const stat = "cpu  100 20 30 99999 9999 4 6 777 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"
	got, err := busyTime([]byte(stat))
	if want := 1600 * time.Millisecond; err != nil || got != want {
		t.Errorf("busyTime = %v, %v, want %v", got, err, want)
	}
	for _, bad := range []string{"", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8", "cpu 1 2 x 4 5 6 7 8"} {
		if _, err := busyTime([]byte(bad)); err == nil || !strings.Contains(err.Error(), "/proc/stat") {
			t.Errorf("busyTime(%q): error %v, want one that names the file", bad, err)
		}
	}
}

func TestCPUModel(t *testing.T) {
	const info = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Fast CPU @ 3: GHz\n\nmodel name\t: other\n"
	if got := cpuModel(strings.NewReader(info)); got != "Fast CPU @ 3: GHz" {
		t.Errorf("model %q", got)
	}
	if got := cpuModel(strings.NewReader("processor : 0\n")); got != runtime.GOARCH {
		t.Errorf("model of a machine that names none: %q", got)
	}
}

func TestOthers(t *testing.T) {
	used := usage{Machine: 10, Envoy: 4, Client: 3}.since(usage{Machine: 1, Envoy: 1, Client: 1})
	if got := used.others(); got != 4 {
		t.Errorf("others %d, want 4", got)
	}
	if got := (usage{Machine: 10, Envoy: 4, Plain: 5}).others(); got != 1 {
		t.Errorf("others %d, want 1: plain Envoy beside is none of them", got)
	}
	if got := (usage{Machine: 1, Server: 2}).others(); got != 0 {
		t.Errorf("others %d, want 0: /proc/stat is coarser than the clocks", got)
	}
}

func TestCPUTime(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("CPU clocks of processes are read on Linux only")
	}
	before, err := cpuTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	const work = 30 * time.Millisecond
	for start := time.Now(); time.Since(start) < work; { //nolint:revive // busy on purpose
	}
	after, err := cpuTime(os.Getpid())
	if used := after - before; err != nil || used <= 0 || used > 50*work {
		t.Errorf("a busy loop of %v took %v, %v", work, used, err)
	}
	if _, err := cpuTime(1<<22 + 1); err == nil {
		t.Error("a process id beyond the largest has a CPU clock")
	}
}
