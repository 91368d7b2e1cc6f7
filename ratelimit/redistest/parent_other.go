//go:build !linux

package redistest

import "syscall"

// dieWithParent cannot be had here: a test binary that is killed leaves its
// servers behind.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
