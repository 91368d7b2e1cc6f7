package keyfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	configv1 "github.com/weir-gateway/weir/proto/weir/config/v1"
)

const hash = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

func keyOf(id string) *configv1.Key { return &configv1.Key{Id: id, Hash: hash, User: "eve"} }

// Each text is changed, and all of it but what the change is about stays.
func TestChangesKeepTheRest(t *testing.T) {
	disable := func(file string) error {
		return Change(file, "b", func(k *configv1.Key) error { k.Enabled = new(false); return nil })
	}
	label := func(file string) error {
		return Change(file, "b", func(k *configv1.Key) error { k.Label = "yes: no"; k.Enabled = nil; return nil })
	}
	add := func(file string) error { return Add(file, keyOf("new")) }
	h := `"` + hash + `"`
	for name, c := range map[string]struct {
		edit        func(string) error
		before, now string
	}{
		"a flow line in between": {
			disable,
			"# site\nkeys:\n  # ann's\n  - {id: a, hash: " + h + "}   # one\n\n  # bob's\n  - {id: b, hash: " + h + ", user: bob} # two\n  # at the end\n",
			"# site\nkeys:\n  # ann's\n  - {id: a, hash: " + h + "}   # one\n\n  # bob's\n  - {id: b, hash: " + h + ", user: bob, enabled: false} # two\n  # at the end\n",
		},
		"a block": {
			disable,
			"keys:\n- id: b   # bob\n  hash: " + h + "\n  # why\n  user: \"b\"\n\n# c is next\n- id: c\n  hash: " + strings.Replace(h, "00", "11", 1) + "\n",
			"keys:\n- id: b # bob\n  hash: " + h + "\n  # why\n  user: \"b\"\n  enabled: false\n\n# c is next\n- id: c\n  hash: " + strings.Replace(h, "00", "11", 1) + "\n",
		},
		"a value is replaced, one taken away": {
			label,
			"keys:\n    - {enabled: false, id: b, label: \"x\", hash: " + h + "}",
			"keys:\n    - {id: b, label: \"yes: no\", hash: " + h + "}\n",
		},
		"added after flow lines":     {add, "keys:\n  - {id: a, secret: xxxxxxxxxxxxxxxx} # a\n# end\n", "keys:\n  - {id: a, secret: xxxxxxxxxxxxxxxx} # a\n  - {id: new, hash: '" + hash + "', user: eve}\n# end\n"},
		"added after blocks":         {add, "keys:\n- id: a\n  secret: xxxxxxxxxxxxxxxx", "keys:\n- id: a\n  secret: xxxxxxxxxxxxxxxx\n- id: new\n  hash: " + hash + "\n  user: eve\n"},
		"added to nothing":           {add, "", "keys:\n  - id: new\n    hash: " + hash + "\n    user: eve\n"},
		"added to comments":          {add, "# keys of the site\n", "# keys of the site\nkeys:\n  - id: new\n    hash: " + hash + "\n    user: eve\n"},
		"added to an empty list":     {add, "keys: [] # none\n", "keys:\n  - id: new\n    hash: " + hash + "\n    user: eve\n"},
		"added to keys: and no more": {add, "keys:\n", "keys:\n  - id: new\n    hash: " + hash + "\n    user: eve\n"},
		"a list in brackets":         {disable, "keys: [{id: a, secret: xxxxxxxxxxxxxxxx}, {id: b, secret: yyyyyyyyyyyyyyyy}]\n", "keys: [{id: a, secret: xxxxxxxxxxxxxxxx}, {id: b, secret: yyyyyyyyyyyyyyyy, enabled: false}]\n"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "keys.yaml")
			if err := os.WriteFile(file, []byte(c.before), 0o640); err != nil {
				t.Fatal(err)
			}
			if err := c.edit(file); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.now, string(got)); diff != "" {
				t.Errorf("file (-want +got):\n%s", diff)
			}
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o640 {
				t.Errorf("mode %v, %v: want that of the old file", info.Mode(), err)
			}
			if list, err := os.ReadDir(filepath.Dir(file)); err != nil || len(list) != 1 {
				t.Errorf("something is left beside the file: %v, %v", list, err)
			}
		})
	}
}

func TestRefusedChangesLeaveTheFile(t *testing.T) {
	for name, c := range map[string]struct {
		text, want string
		edit       func(string) error
	}{
		"no such key": {"keys: [{id: a, secret: xxxxxxxxxxxxxxxx}]", "no such key", func(f string) error {
			return Change(f, "b", func(*configv1.Key) error { return nil })
		}},
		"the same id": {"keys: [{id: a, secret: xxxxxxxxxxxxxxxx}]", "two keys would have the id", func(f string) error { return Add(f, keyOf("a")) }},
		"older JSON":  {`{"keys":[{"key":"x"}]}`, "weir keys import", func(f string) error { return Add(f, keyOf("a")) }},
		"a mistake":   {"keys: [{id: a}]", "exactly one of hash and secret", func(f string) error { return Add(f, keyOf("b")) }},
		"a bad value": {"keys: [{id: a, secret: xxxxxxxxxxxxxxxx}]", "must be a time", func(f string) error {
			return Change(f, "a", func(k *configv1.Key) error { k.Expires = "soon"; return nil })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "keys.yaml")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := c.edit(file); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if got, err := os.ReadFile(file); err != nil || string(got) != c.text {
				t.Errorf("the file is now %q (%v)", got, err)
			}
		})
	}
}

// Changes at the same time lose nothing, and a link stays a link.
func TestConcurrentChanges(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "real.yaml"), filepath.Join(dir, "keys.yaml")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink("real.yaml", link)); err != nil {
		t.Fatal(err)
	}
	const n = 40
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			k := keyOf(fmt.Sprintf("k%d", i))
			k.Hash = fmt.Sprintf("sha256:%064x", i)
			if err := Add(link, k); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	keys, err := Read(link)
	if err != nil || len(keys) != n {
		t.Errorf("%d keys, %v: want %d", len(keys), err, n)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is now %v (%v)", info.Mode(), err)
	}
}

// A change that fails makes no file, one that finds a link to nowhere says so, and one
// is made for its owner alone.
func TestFilesThatAreNotThere(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "keys.yaml"), filepath.Join(dir, "link.yaml")
	bad := keyOf("a")
	bad.Cidrs = []string{"10.0.0.0"}
	if err := Add(file, bad); err == nil {
		t.Error("a bad range was taken")
	}
	if err := Change(file, "a", func(*configv1.Key) error { return nil }); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a change of nothing: %v", err)
	}
	if err := os.Symlink("nowhere/keys.yaml", link); err != nil {
		t.Fatal(err)
	}
	if err := Add(link, keyOf("a")); err == nil || !strings.Contains(err.Error(), "leads nowhere") {
		t.Errorf("a link to nowhere: %v", err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("files were made: %v, %v", list, err)
	}
	if err := Add(file, keyOf("a")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}
