//go:build race

package e2e

// buildFlags build a weir that watches for races itself.
var buildFlags = []string{"-race"}

// floodSize is how many requests come at once. A weir that watches for races is
// ten times slower; the run without that sends them all.
const floodSize = 300
