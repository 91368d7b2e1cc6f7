// Package upstream knows the models that clients may name, and where each is
// served.
//
// A [Table] is made from the configuration once and never changes. It resolves
// a name, which may be an alias, to a [Route]: the model's own name, the
// upstream that serves it and that upstream's credential.
package upstream
