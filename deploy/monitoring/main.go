// Command monitoring writes Grafana's dashboards and Prometheus' rules for weir: the
// folders dashboards and rules beside it, or in the folder that it is given.
//
// All their expressions are here and in its other files. The tests parse each one, look
// for its metrics and labels in what a running weir really exposes, and have
// Prometheus' own engine evaluate the rules.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	dir := "."
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	if err := write(dir); err != nil {
		fmt.Fprintln(os.Stderr, "monitoring:", err)
		os.Exit(1)
	}
}

// write makes the files anew.
func write(dir string) error {
	all, err := files()
	if err != nil {
		return err
	}
	for name, text := range all {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return fmt.Errorf("write what was generated: %w", err)
		}
	}
	return nil
}

// files are all that is generated, by their paths.
func files() (map[string][]byte, error) {
	all := map[string][]byte{}
	text, err := ruleFile()
	if err != nil {
		return nil, err
	}
	all["rules/weir.yml"] = text
	for _, d := range dashboards() {
		if all["dashboards/"+d.uid+".json"], err = d.json(); err != nil {
			return nil, err
		}
	}
	return all, nil
}
