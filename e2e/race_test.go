//go:build race

package e2e

// buildFlags build a weir that watches for races itself.
var buildFlags = []string{"-race"}
