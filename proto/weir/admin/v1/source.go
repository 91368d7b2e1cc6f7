// Package adminv1 is the admin API: see admin.proto.
package adminv1

import _ "embed"

// Source is the text of admin.proto, whose comments describe the API.
//
//go:embed admin.proto
var Source string
