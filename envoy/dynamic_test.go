package envoy

import (
	"os"
	"path/filepath"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

func TestWriteBootstrap(t *testing.T) {
	dir := t.TempDir()
	with := func(dir, id string) *bootstrapv3.Bootstrap {
		pipe := &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: filepath.Join(dir, "admin.sock")}}}
		return &bootstrapv3.Bootstrap{Node: &corev3.Node{Id: id}, Admin: &bootstrapv3.Admin{Address: pipe}}
	}
	for _, step := range []struct {
		name, id string
		replaced bool
	}{{"it is new", "one", false}, {"it is the same", "one", false}, {"it is another", "two", true}} {
		file, replaced, err := WriteBootstrap(with(dir, step.id))
		if file != filepath.Join(dir, BootstrapFile) || replaced != step.replaced || err != nil {
			t.Errorf("%s: %s, replaced %v, error %v", step.name, file, replaced, err)
		}
	}
	// An Envoy of another user but the folder's group reads it, nobody else.
	if info, err := os.Stat(filepath.Join(dir, BootstrapFile)); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, error %v; want mode 0640", info.Mode(), err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the folder has %v, error %v; want the bootstrap alone", entries, err)
	}
	if _, _, err := WriteBootstrap(with(filepath.Join(dir, "missing"), "one")); err == nil {
		t.Error("written into a folder that does not exist")
	}
}
