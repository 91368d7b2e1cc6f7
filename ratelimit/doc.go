// Package ratelimit decides whether an exchange fits its limits.
//
// A limit is a rule ("100000 tokens a minute"), a scope is what it counts
// for ("key:k_7f3"), an exchange is one client request with its answer. The
// life of an exchange is
//
//	Admit   charge a reservation to every limit, or to none
//	Renew   while it lives, keep its leases (every LeaseTTL/3)
//	Settle  replace the reservation by what the exchange really cost
//	Cancel  or give everything back: it never reached an upstream
//
// A Store keeps the state. The decision is not the store's: it is the pure
// code of this package, which takes the state and the time as arguments, has
// no clock, no lock and does no I/O. Package memstore calls it, the scripts of
// package redisstore do the same within Redis, and package storetest defines what
// every store must do.
//
// # Windows
//
// A [Window] counts in a ring of buckets, each a B-th of the window long, and
// it sums B+1 of them, because an interval as long as the window can touch
// that many. So no interval of that length ever holds more than the limit. The
// error is on the refusing side alone: a charge counts for up to one bucket
// longer than the window.
//
//	limit 10/min, B = 12     |..|..|4.|..|..|..|..|..|..|..|..|3.|2 |   sum 9 of 10
//	                          oldest                        newest
//
// A limit of a [Calendar] day, week or month has one bucket instead, the period
// in its time zone; it is exact, and all of it leaves at once.
//
// A shadow limit is counted as any other, and never refuses: a decision tells
// where it would have.
//
// A refund goes back into the bucket that was charged; once that bucket has
// left the window there is nothing to give back, and the refund is dropped. It
// is never free capacity of a later window. What an exchange costs beyond its
// reservation is charged to the newest bucket as debt: it is never refused, and
// may take the sum beyond the limit until it ages out.
//
// # Concurrency
//
// [Leases] is the set of the exchanges that hold a slot, each with its expiry.
// It is not a counter: a counter that misses one decrement is wrong for ever,
// while the lease of an exchange that died unsettled ends by itself after
// LeaseTTL.
//
// # Time
//
// Store time is the time since the Unix epoch as the store tells it, to which
// buckets are aligned. It must not go backward, nor jump forward when the wall
// clock is set: that is the store's duty, since a state alone cannot tell an
// idle hour from a clock that was set. The kernel clamps what slips through: a
// time before the newest bucket counts as that bucket's, and leases expire in
// the order in which they were granted or renewed.
package ratelimit
