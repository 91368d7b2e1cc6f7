//go:build !race

package memstore_test

// steps is how long the random histories are in all.
const steps = 120_000
