//go:build !race

package redisstore_test

// steps is how long the random histories are in all.
const steps = 100_000
