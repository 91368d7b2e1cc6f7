// Package smoke tries a gateway from outside, as its clients use it: is it there, does
// it answer, stream, list its models, refuse what it must, and say why.
//
// It knows nothing of weir but what clients see, so that it can be held against any
// OpenAI-compatible server.
package smoke
