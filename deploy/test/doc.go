// Package deploytest looks at the files of deployments as the programs that read them
// do, without running anything. It is a module of its own, for what those need.
package deploytest
