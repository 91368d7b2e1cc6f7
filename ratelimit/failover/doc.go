// Package failover decides what limits do while their store cannot be asked.
//
// A [Store] stands before a shared store, Redis for example, and passes every
// call on. When calls fail it stops making them for a while, and each limit does
// what it was told to do then:
//
//	Local   counts in memory, this replica's share of the limit
//	Open    admits, and counts when the store is back
//	Closed  refuses, with ErrClosed
//
// # The breaker
//
//	closed ──5 failures in a row, or half of 20 within a second──▶ open
//	   ▲                                                            │
//	   └────────── a probe succeeds, one every ProbeEvery ◀─────────┘
//
// While it is open no request waits for the store.
//
// # What is owed to the store
//
// An exchange that was decided without the store is owed to it: when the store is
// back it is admitted there by force, so that its slots and its usage count, and
// settled if it has ended meanwhile. What settles and cancels could not be told is
// owed too. The list of debts is bounded; the oldest are dropped and counted.
// Usage of the outage is added to a limit up to the limit, not beyond: it must not
// lock a key out for longer than one window.
//
// A call that failed may have been carried out all the same. All operations are
// idempotent by the exchange's id, so that they can be repeated: an exchange that
// was refused after such a failure is cancelled later, one that was admitted is
// admitted again under the same id, and is charged once.
package failover
