//go:build !race

package e2e

// floodSize is how many requests come at once.
const floodSize = 2000

var buildFlags []string
