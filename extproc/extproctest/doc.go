// Package extproctest drives an ext_proc server as Envoy does, without Envoy:
// the same messages in the same order, the replies obeyed as Envoy obeys them.
// It is for tests that need thousands of exchanges, or phases that are hard to
// provoke. Transcripts recorded from a real Envoy keep it honest.
package extproctest
