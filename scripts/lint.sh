#!/usr/bin/env bash
# Runs golangci-lint on every module of the repository: scripts/lint.sh run, or
# scripts/lint.sh fmt. The linter is built once a machine, at the pinned
# version, into the user's cache (about two minutes).
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

version=v2.15.0

# linter: the path of the binary for this Go; a linter refuses code newer than
# the Go it was built with.
linter() { echo "$cache/golangci-lint-$version-$(cd "$root" && go env GOVERSION)"; }

build() {
	local target=$1 work start=$SECONDS
	mkdir -p "$cache"
	work=$(mktemp -d "$cache/.golangci-lint.XXXXXX")
	say "Building golangci-lint $version, once on this machine; this takes some minutes …"
	if ! GOBIN="$work" GOFLAGS='' go install -trimpath -ldflags='-s -w' \
		"github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$version" >"$work/log" 2>&1; then
		grep -v ': downloading ' "$work/log" | tail -n 20 >&2
		rm -rf "$work"
		fail "golangci-lint $version could not be built." "Check the network and the Go module proxy (go env GOPROXY), then run this again."
	fi
	mv -f "$work/golangci-lint" "$target"
	rm -rf "$work"
	say "golangci-lint $version is at $target ($((SECONDS - start)) s)"
}

# modules: the folders that hold a go.mod.
modules() {
	find "$root" \( -name node_modules -o -name '.?*' -o -name testdata \) -prune -o -name go.mod -print |
		sort | while read -r file; do dirname "$file"; done
}

main() {
	local lint dir bad=0
	lint=$(linter)
	[[ -x $lint ]] || build "$lint"
	while read -r dir; do
		(cd "$dir" && "$lint" --config "$root/.golangci.yml" "$@") || bad=1
	done < <(modules)
	return "$bad"
}

(($#)) || set -- run
main "$@"
