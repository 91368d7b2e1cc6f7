// Package memstore is the ratelimit store of a single process: exact, in
// memory, gone when the process ends.
//
// # Locks
//
// Two kinds of lock, each taken in this order and held only for one call:
//
//	shard   guards the receipts of the exchanges whose Seq falls to it
//	stripe  guards the accounts of the scopes whose hash falls to it
//
// A call locks one shard, then every stripe that its charges need, in
// ascending order, so that it is one step for everybody else. All limits of
// one scope share a stripe.
//
// # Memory
//
// An account, one limit in one scope, can be forgotten as soon as its window is
// empty or its leases are gone, and no open receipt refers to it. A refused
// request never makes one. Accounts that have been idle for a minute go when new
// ones come, two looked at for each one made, and all of them when Stats is
// called. An account that
// still counts is never dropped: where MaxScopes is reached and none is idle,
// not even for a moment, Admit fails with ratelimit.ErrFull and charges nothing.
//
// # Time
//
// Store time is read from the monotonic clock: setting the wall clock, either
// way, is not seen here. Where another clock is given and that is set back,
// store time goes on from where it was, so that what counts stays no longer
// than it would have.
package memstore
