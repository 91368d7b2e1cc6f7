//go:build !race

package e2e

// floodSize is how many requests come at once.
const floodSize = 2000

var buildFlags []string

// idleConnections are held open beside good clients, guesses are made of keys.
const idleConnections, guesses = 2000, 20000

// mostGrown is what weir may hold more after the guesses, in bytes.
const mostGrown = 64 << 20
