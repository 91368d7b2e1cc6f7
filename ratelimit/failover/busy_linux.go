package failover

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
)

// crowd is how many threads that want to run, for each processor, make a machine busy.
// Fewer are what wakes for a moment anywhere, and each has its turn within milliseconds.
const crowd = 2

// busy tells whether so many threads of the machine want to run now that one has to wait
// for its turn: /proc/loadavg's fourth field (proc_loadavg(5)).
func busy() bool {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return false
	}
	fields := bytes.Fields(text)
	if len(fields) < 4 {
		return false
	}
	running, _, _ := bytes.Cut(fields[3], []byte("/"))
	n, err := strconv.Atoi(string(running))
	return err == nil && n > crowd*runtime.NumCPU()
}
