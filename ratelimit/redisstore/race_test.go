//go:build race

package redisstore_test

// steps is how long the random histories are in all. The race detector makes
// each some three times dearer and has nothing to find in them.
const steps = 9_000
