//go:build !race

package extproc_test

// splitStep is how many bytes lie between two splits of a stream.
const splitStep = 1
