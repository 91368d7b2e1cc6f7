// Package redispool is what replicas share of their pools of upstream keys: one
// hash an upstream, in Redis 6.2 or later.
//
// # Keys
//
//	{weir0}:p:<upstream>  hash:
//	    ~         the newest version
//	    <key id>  "<version> <version of the state> <state> <ends> <level> <disabled> <why>"
//
// A cooling ends at a time of the server's, in ms; nobody else's clock counts. The
// hash lives for a day after somebody has last polled it. Secrets are not in it,
// nor labels; an ID is part of a digest.
//
// # Rights
//
// A user of Redis needs no more than this:
//
//	ACL SETUSER weir on >… ~{weir0}:* +eval +evalsha +time +hget +hmget +hset +hgetall +pexpire +pttl
//
// # Versions
//
// Each change of an entry is the next version. A hash that begins anew begins lower than any
// one before it, and so a replica that has seen more knows that it was lost (as
// long as the server's clock is not set back meanwhile).
package redispool
