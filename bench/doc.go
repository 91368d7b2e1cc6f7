// Command bench measures what weir adds to a request. Chains are compared
// on one machine, in turn, several times:
//
//	plain   client ─ Envoy ─ simulator
//	grpc    client ─ Envoy ─ simulator, Envoy with the bootstrap that weir
//	        generates and a server behind its sockets that decides nothing,
//	        served with grpc-go
//	noop    the same, served as weir serves
//	weir    client ─ Envoy ─ simulator, run by `weir up` with limits of every
//	        kind, a ledger, metrics and a log
//
//	redis   weir that counts in Redis; for loads at a rate only
//
// The no-op server is the floor: what it costs is Envoy's filters, the protocol between
// it and the server, and the kernel. What weir costs above it is weir's own work.
//
// Each part is a process of its own, and its CPU time is read from the kernel
// before and after a load: the process's CPU clock, in nanoseconds, of all its
// threads whether they still run or not (clock_getcpuclockid(3)). CPU time a
// request hardly depends on how busy the machine is otherwise; times on a clock
// do. Of several rounds the least of each figure is taken, since all that
// disturbs a measurement makes it larger.
//
// Streams are compared with plain Envoy at the same time: each chain has them beside plain
// Envoy, which has as many, and the ratio of what both took is the figure.
//
// Latency at a rate is another matter: requests are sent when they are due,
// whether others are answered or not, and the time of each begins then, so that a
// chain that stalls is not asked less for it. Medians of the rounds are taken.
//
// Every answer is checked while it is measured, and weir's ledger after it.
package main
