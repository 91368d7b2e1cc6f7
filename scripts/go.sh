#!/usr/bin/env bash
# Checks that the Go toolchain is there and new enough for go.mod.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

main() {
	local want version
	want=$(awk '$1 == "go" { print $2; exit }' "$root/go.mod")
	have go || fail "There is no Go toolchain on PATH." "Install Go $want or newer, see https://go.dev/doc/install."
	# Outside the module, so that a Go that is too old says its version.
	version=$(cd / && go env GOVERSION)
	version=${version#go}
	version_at_least "$version" "$want" || may_switch ||
		fail "Go $version is too old: weir needs Go $want or newer." \
			"Install one, see https://go.dev/doc/install, or let Go fetch it: GOTOOLCHAIN=auto make …"
}

# may_switch: this Go is older, but has a newer one that it hands over to.
may_switch() { (cd "$root" && go env GOVERSION) >/dev/null 2>&1; }

main "$@"
