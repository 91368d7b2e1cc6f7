// Package upstream knows the models that clients may name, where each is served,
// and how those servers do.
//
// A [Directory] follows the servers: which of them answer, what models those list
// that are asked to, and which keys of their pools can be used. Its [Table] is
// immutable and replaced when a list changes; it resolves a name, which may be an
// alias, to a [Route]: the model and the targets that serve it. [Route.Plan] orders
// the targets for one request.
package upstream
