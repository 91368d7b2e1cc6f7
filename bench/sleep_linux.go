package main

import (
	"runtime"
	"syscall"
	"time"
)

// wakePrecisely gives the calling goroutine a thread whose sleeps end on time: the
// kernel may prolong others' by 50 µs (PR_SET_TIMERSLACK(2const)). The thread ends
// with the goroutine.
func wakePrecisely() {
	runtime.LockOSThread()
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_TIMERSLACK, 1, 0)
}

// sleepUntil sleeps in the kernel: the runtime's timers are up to 1 ms late where
// nothing else goes on.
func sleepUntil(t time.Time) {
	for d := time.Until(t); d > 0; d = time.Until(t) {
		ts := syscall.NsecToTimespec(d.Nanoseconds())
		_ = syscall.Nanosleep(&ts, nil) // a signal may end it early
	}
}
