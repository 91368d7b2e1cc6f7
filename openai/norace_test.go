//go:build !race

package openai

// splitStep is how many bytes lie between two splits of a recording.
const splitStep = 1
