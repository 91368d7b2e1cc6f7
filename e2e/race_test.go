//go:build race

package e2e

// buildFlags build a weir that watches for races itself.
var buildFlags = []string{"-race"}

// floodSize is how many requests come at once. A weir that watches for races is
// ten times slower; the run without that sends them all.
const floodSize = 300

// idleConnections are held open beside good clients, guesses are made of keys.
const idleConnections, guesses = 500, 2000

// mostGrown is what weir may hold more after the guesses, in bytes. The race detector keeps what it has seen.
const mostGrown = 512 << 20
