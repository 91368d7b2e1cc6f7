//go:build race

package openai

// splitStep is how many bytes lie between two splits of a recording. The race
// detector makes each ten times dearer; the run without it splits at every byte.
const splitStep = 17
