//go:build compose

// Package composetest runs docker-compose.yml on the Docker that the environment
// names, and looks at it from outside as clients and operators do. The script run
// beside it brings up a Docker of its own for that.
//
// The variable SITE names a copy of the repository in which deploy/compose/setup has
// run and whose images are at hand, KEY the first client key.
package composetest
