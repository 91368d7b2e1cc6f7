// Package gateway decides what happens to one call, and what it cost.
//
// A call becomes an [Exchange] in [Gateway.Admit]:
//
//	Admit     read the body, find the model's route, estimate the tokens,
//	          charge every limit or none
//	Answer    the upstream's status and headers are there: what becomes of them
//	Write     the answer passes by and is metered
//	End       nothing more will come
//
// and is settled exactly once: as soon as the answer says that it is over, or
// at its end, whatever that end is. The package knows nothing of Envoy or gRPC.
// Whoever opens an exchange calls its methods one after the other; they need
// not be the same goroutine.
//
// Limits are charged with what is known beforehand (the prompt's estimate and
// the longest answer allowed) and settled with what the upstream reported. If
// it reported nothing, the text that was seen is estimated; such counts are
// marked.
package gateway
