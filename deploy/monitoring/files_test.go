package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestFilesAreCurrent compares the files with what is generated.
func TestFilesAreCurrent(t *testing.T) {
	want, err := files()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, pattern := range []string{"dashboards/*", "rules/*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, found...)
	}
	if names := slices.Sorted(maps.Keys(want)); !slices.Equal(got, names) {
		t.Errorf("files %q, want %q", got, names)
	}
	for name, text := range want {
		if now, err := os.ReadFile(name); err != nil || !bytes.Equal(now, text) {
			t.Errorf("%s is not what is generated (%v): make monitoring", name, err)
		}
	}
}

// boardFile is what the tests read of a dashboard.
type boardFile struct {
	UID        string
	Templating struct {
		List []struct{ Name string }
	}
	Panels []struct {
		ID      int
		Type    string
		Title   string
		GridPos struct{ X, Y, W, H int }
		Targets []struct{ RefID, Expr string }
	}
}

// boardFiles reads the dashboards as they are on the disk.
func boardFiles(t *testing.T) (list []boardFile) {
	t.Helper()
	names, err := filepath.Glob("dashboards/*.json")
	if err != nil || len(names) == 0 {
		t.Fatalf("dashboards %q: %v", names, err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var b boardFile
		if err := json.Unmarshal(text, &b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if b.UID+".json" != filepath.Base(name) {
			t.Errorf("%s has the uid %q", name, b.UID)
		}
		list = append(list, b)
	}
	return list
}

// TestPanels: each can be told from the others, shows something, and none covers another.
func TestPanels(t *testing.T) {
	for _, b := range boardFiles(t) {
		ids, covered := map[int]bool{}, map[string]string{}
		for _, p := range b.Panels {
			if p.ID == 0 || ids[p.ID] {
				t.Errorf("%s: %q has the id %d", b.UID, p.Title, p.ID)
			}
			ids[p.ID] = true
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if at := fmt.Sprint(x, ",", y); covered[at] != "" {
						t.Fatalf("%s: %q and %q are both at %s", b.UID, p.Title, covered[at], at)
					} else {
						covered[at] = p.Title
					}
				}
			}
			refs := map[string]bool{}
			for _, q := range p.Targets {
				if q.RefID == "" || refs[q.RefID] {
					t.Errorf("%s: %q has queries of one name %q", b.UID, p.Title, q.RefID)
				}
				refs[q.RefID] = true
			}
			if p.Type != "row" && len(p.Targets) == 0 {
				t.Errorf("%s: %q shows nothing", b.UID, p.Title)
			}
		}
	}
}
