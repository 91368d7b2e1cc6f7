package main

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestChild(t *testing.T) {
	t.Parallel()
	ready := regexp.MustCompile(`^at (\S+)$`)
	c, err := startChild(t.Context(), ready, "sh", "-c", "echo at here; exec cat")
	if err != nil {
		t.Fatal(err)
	}
	if c.ready != "here" {
		t.Errorf("ready %q, want here", c.ready)
	}
	if _, err := cpuTime(c.pid()); err != nil {
		t.Error(err)
	}
	if err := c.stop(); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("cat takes no notice of being asked to stop: %v", err)
	}
}

func TestChildThatEnds(t *testing.T) {
	t.Parallel()
	_, err := startChild(t.Context(), regexp.MustCompile(`^(ready)$`), "true")
	if err == nil || !strings.Contains(err.Error(), "ended before it was ready") {
		t.Errorf("error %v", err)
	}
}

func TestChildIsStoppedWithItsStart(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	start := time.Now()
	if _, err := startChild(ctx, regexp.MustCompile(`^(ready)$`), "sleep", "60"); err == nil {
		t.Error("a start that was given up did not fail")
	}
	if took := time.Since(start); took > stopTime {
		t.Errorf("it took %v", took)
	}
}
