package envoy

import "syscall"

// childAttributes put Envoy into a group of its own, so that Ctrl-C in a
// terminal reaches weir alone, which then lets Envoy end its answers first; and
// have the kernel end it with the thread that started it, should weir be killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
