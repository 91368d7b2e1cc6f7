// Package openapi describes what weir serves over HTTP, as an OpenAPI document: what
// clients call (clients.yaml) and what operators do (made of the admin API's schema).
package openapi
