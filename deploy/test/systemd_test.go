package deploytest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// exposure is the most that systemd may say of a unit: of 10, where 10 is an ordinary
// service.
const exposure = 1.3

var overall = regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`)

// TestSystemd has systemd read the units, which tells of unknown settings only in words.
func TestSystemd(t *testing.T) {
	analyze := program(t, "systemd-analyze")
	dir := t.TempDir()
	files, err := filepath.Glob(root + "/deploy/systemd/*.service")
	if err != nil || len(files) != 2 {
		t.Fatalf("units %q, %v", files, err)
	}
	var units []string
	for _, file := range files {
		text := read(t, file)
		for _, name := range []string{"weir", "envoy"} { // which need not be installed here
			stand := filepath.Join(dir, name)
			write(t, stand, "#!/bin/sh\n", 0o755)
			text = bytes.ReplaceAll(text, []byte("/usr/local/bin/"+name+" "), []byte(stand+" "))
		}
		unit := filepath.Join(dir, filepath.Base(file))
		write(t, unit, string(text), 0o644)
		units = append(units, unit)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, append([]string{"verify"}, units...)...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	for _, unit := range units {
		out, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--no-pager", unit).CombinedOutput()
		found := overall.FindSubmatch(out)
		if err != nil || found == nil {
			t.Fatalf("systemd-analyze security: %v\n%s", err, out)
		}
		if got, err := strconv.ParseFloat(string(found[1]), 64); err != nil || got > exposure {
			t.Errorf("%s: exposure %s, want at most %v\n%s", filepath.Base(unit), found[1], exposure, out)
		}
	}
}

// TestSysusers has systemd read who the users are.
func TestSysusers(t *testing.T) {
	file, err := filepath.Abs(root + "/deploy/systemd/weir.sysusers")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), program(t, "systemd-sysusers"), "--root="+t.TempDir(), "--dry-run", file).CombinedOutput()
	for _, want := range []string{"group 'weir'", "user 'weir' (weir)", "user 'weir-envoy' (Envoy in front of weir)"} {
		if err != nil || !bytes.Contains(out, []byte(want)) {
			t.Errorf("no %q, %v:\n%s", want, err, out)
		}
	}
}

// program finds one that the test needs.
func program(t *testing.T, name string) string {
	t.Helper()
	file, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("%s is not installed here", name)
	}
	return file
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func write(t *testing.T, file, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}
