//go:build !linux

package main

import "time"

// wakePrecisely has no effect here.
func wakePrecisely() {}

func sleepUntil(t time.Time) { time.Sleep(time.Until(t)) }
