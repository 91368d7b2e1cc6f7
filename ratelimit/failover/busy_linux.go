package failover

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
)

// busy tells whether more threads of the machine want to run now than it has
// processors for: /proc/loadavg's fourth field (proc_loadavg(5)).
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
	return err == nil && n > runtime.NumCPU()
}
