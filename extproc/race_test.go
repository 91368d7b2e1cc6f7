//go:build race

package extproc_test

// splitStep is how many bytes lie between two splits of a stream. The race
// detector makes each exchange ten times dearer; the run without it splits at
// every byte.
const splitStep = 13
