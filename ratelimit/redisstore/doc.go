// Package redisstore is the ratelimit store that replicas share: exact across
// all of them, in one Redis 6.2 or later, alone, behind Sentinel, or a Cluster.
//
// # Calls
//
// Each call is one Lua script, and so one step for everybody else. What calls
// of this process come while a round trip is under way go together in the next
// one: see batcher. No call is repeated on its own, but for scripts that the
// server has forgotten (NOSCRIPT) and slots that have moved (MOVED).
//
// # Keys
//
//	{weir0}:t                 when it was last looked at; see lua/time.lua
//	{weir0}:w:<scope>         hash of the windows of a scope; see lua/window.lua
//	{weir0}:c:<limit>:<scope> sorted set of leases, by expiry in µs
//	{weir0}:q:<id>            receipt or tombstone of an exchange; see lua/receipt.lua
//
// The one hash tag keeps all of them in one slot, so that limits are exact over
// all scopes on a Cluster too. The script that makes a key gives it a time to
// live: a second longer than anything in it counts.
//
// # Rights
//
// A user of Redis needs no more than this, and on a Cluster +cluster|slots:
//
//	ACL SETUSER weir on >… ~{weir0}:* +hello +auth +select +client|setname +ping
//	  +eval +evalsha +time +get +mget +set +hget +hmget +hset +hdel +pexpire +pttl
//	  +zadd +zrem +zcount +zscore +zrevrange +zrangebyscore +zremrangebyscore
//
// # Time
//
// Store time is the server's alone. If it is set back, or a replica that is
// behind takes over, store time stands still where it was and goes on from
// there. If it is set forward, windows end early, once: nothing in the server
// tells that from an idle hour. Keep its clock slewed.
//
// A client's deadline becomes one of the server's by what each reply tells: the
// server's time lies between the sending and the receiving. The earliest that
// this allows is taken, so that no admit is charged after its caller has given
// up; it may be refused up to a round trip too early, which is noticed and made
// good.
//
// # Errors
//
// Besides those of ratelimit.Store there are two kinds. With
// ratelimit.ErrUnavailable a call has not taken effect and will not: the server
// was not reached, or answered that it would not (READONLY, OOM, LOADING). With
// ratelimit.ErrUnknown it was sent, and no answer came. A call of either kind
// can be repeated with the same ID; Cancel after an Admit settles the matter,
// also if it overtakes it.
//
// When Redis has reached its maxmemory, with eviction off, Admit fails, with
// ratelimit.ErrFull too, while Settle, Cancel and Renew work on.
package redisstore
