// Package pool chooses among the keys of one upstream, and learns from each
// attempt which of them can be used.
//
// An attempt is a [Lease]: [Pool.Pick] chooses its key, [Lease.Done] tells how it
// went. Where an answer's status is known long before its end, [Lease.Learn]
// tells it at once.
//
// # States
//
//	          429, or 3 strikes in 30 s
//	HEALTHY ─────────────────────────────▶ COOLING ──┐ the trial fails:
//	   ▲  ▲                                  │  │ ▲  │ cooling again, longer
//	   │  └──────────── trial succeeds ──────┘  │ └──┘
//	   │                                        │
//	   │           401, 403, 402, no quota      ▼
//	   └──────── probe, reload, reset ◀─── QUARANTINED ◀── (from HEALTHY too)
//
// A cooling key that has cooled for long enough is on trial: it gets one request
// and no other until the outcome of that one is known. Besides, an operator may
// disable a key; what is known of it goes on underneath.
//
// An outcome speaks of the time at which its attempt began. If the state has
// changed since, it can not make a key usable, nor take it away again; it can
// only lengthen what is there: a longer retry-after, a quarantine in place of
// cooling.
//
// # Replicas
//
// With a [Share] each change is told to the other replicas, and theirs are taken
// over, while [Pool.Run] runs. Nobody waits for that: what is known here serves.
package pool
