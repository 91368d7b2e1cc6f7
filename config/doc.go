// Package config reads weir.yaml.
//
// The schema is proto/weir/config/v1/config.proto. [Load] reads a file in four
// steps: YAML to the schema's message (unknown fields and wrong types are
// errors), ${NAME} replaced from the environment, the schema's own rules, and
// the rules that span fields. Every problem is reported at once, each with
// file, line, column, field and the way out. What comes out is a [Config]:
// plain values with defaults filled in, never changed afterwards.
package config
