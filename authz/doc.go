// Package authz tells who calls.
//
// It is asked before the request's body is read, with the headers that may hold
// a credential, and does no I/O. Package extproc asks [Server.Caller] about what is for
// an upstream, and Envoy itself asks by ext_authz about what weir answers:
//
//	Check ── OK      x-weir-key: the caller's public id, for api;
//	      │          every header that can hold a credential is removed
//	      └─ denied  401, 403 or 415 in OpenAI's shape
//
// Credentials are taken from Authorization (with or without "Bearer"), from
// x-api-key (Anthropic's clients) and from api-key (Azure's).
//
// The protocol: envoy/service/auth/v3/external_auth.proto.
package authz
