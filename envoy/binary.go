package envoy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
)

// Version is the Envoy that weir is made for and tested with. Others of the
// same minor release are taken too.
const Version = "1.40.0"

// Find returns the path of the Envoy binary: $ENVOY, then PATH, then the folder
// that `make envoy` fills. getenv is os.Getenv in programs.
func Find(getenv func(string) string) (string, error) {
	if file := getenv("ENVOY"); file != "" {
		if _, err := os.Stat(file); err != nil {
			return "", fmt.Errorf("the variable ENVOY names no file: %w", err)
		}
		return file, nil
	}
	if file, err := exec.LookPath("envoy"); err == nil {
		return file, nil
	}
	file := filepath.Join(cacheDir(getenv), "envoy-"+Version)
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	return "", fmt.Errorf("no Envoy found: not in $ENVOY, not on PATH, not at %s. Fetch it once with `make envoy`, or set ENVOY to a binary of Envoy %s", file, Version)
}

// cacheDir is where `make envoy` puts the binary.
func cacheDir(getenv func(string) string) string {
	base := getenv("XDG_CACHE_HOME")
	if base == "" {
		base = filepath.Join(getenv("HOME"), ".cache")
	}
	return filepath.Join(base, "weir")
}

var versionLine = regexp.MustCompile(`version: [0-9a-f]+/(\d+\.\d+)(\.\d+)\S*`)

// CheckVersion runs the binary to see that it is an Envoy of the right release.
func CheckVersion(ctx context.Context, binary string) error {
	out, err := exec.CommandContext(ctx, binary, "--version").CombinedOutput()
	if err != nil {
		return fmt.Errorf("run %s --version: %w", binary, err)
	}
	m := versionLine.FindSubmatch(out)
	switch {
	case m == nil:
		return fmt.Errorf("%s --version printed %q: not an Envoy", binary, firstLine(out))
	case !strings.HasPrefix(Version, string(m[1])+"."):
		return fmt.Errorf("%s is Envoy %s%s; weir needs %s: fetch it with `make envoy`, or set ENVOY", binary, m[1], m[2], Version)
	}
	return nil
}

// Validate asks Envoy whether it would take the bootstrap.
func Validate(ctx context.Context, binary string, b *bootstrapv3.Bootstrap) error {
	dir, err := os.MkdirTemp("", "weir-")
	if err != nil {
		return fmt.Errorf("make a folder for the bootstrap: %w", err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, BootstrapFile)
	if err := writeBootstrap(file, b); err != nil {
		return err
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, "--mode", "validate", "-c", file, "-l", "critical")
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); ok {
			return fmt.Errorf("Envoy does not take the bootstrap: %s", bytes.TrimSpace(stderr.Bytes()))
		}
		return fmt.Errorf("run %s: %w", binary, err)
	}
	return nil
}

// writeBootstrap puts the bootstrap into a file that only the owner and the group can
// read.
func writeBootstrap(file string, b *bootstrapv3.Bootstrap) error {
	text, err := YAML(b)
	if err != nil {
		return fmt.Errorf("print the bootstrap: %w", err)
	}
	return replace(file, text)
}

func firstLine(b []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(b), []byte("\n"))
	return string(line)
}
