// Package keyring knows the client keys: their files, their look-up and their
// reload.
//
// A [Keyring] holds the current [Ring], an immutable map from the digest of a
// secret to its [Key]. Secrets themselves are forgotten as soon as a file has
// been read. When a file changes the whole ring is built anew and swapped; a
// file with a mistake changes nothing, is reported, and the last good ring
// stays in use.
package keyring
