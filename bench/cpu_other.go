//go:build !linux

package main

import (
	"errors"
	"time"
)

// cpuTime needs Linux.
func cpuTime(int) (time.Duration, error) {
	return 0, errors.New("the benchmark reads CPU clocks of processes as Linux has them, and runs only there")
}
