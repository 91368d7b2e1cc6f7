//go:build !linux

package envoy

import "syscall"

// childAttributes put Envoy into a group of its own, so that Ctrl-C in a
// terminal reaches weir alone, which then lets Envoy end its answers first.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
