#!/usr/bin/env bash
# Looks at the files of deployments as the programs that read them do.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

main() {
	if in_ci && can_apt && ! have systemd-analyze; then apt_install systemd; fi
	local module
	for module in deploy/test deploy/monitoring; do
		go vet -C "$root/$module" ./...
		# Not from Go's cache of results, which knows nothing of files outside of the module.
		go test -C "$root/$module" -count 1 ./...
	done
}

main "$@"
