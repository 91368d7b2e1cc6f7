//go:build race

package memstore_test

// steps is how long the random histories are in all. The race detector makes
// each some fifteen times dearer and has nothing to find in them.
const steps = 24_000
