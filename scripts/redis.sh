#!/usr/bin/env bash
# Makes sure that there is a redis-server for the tests: $REDIS_SERVER or one on
# PATH. The tests start and stop it themselves.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

main() {
	if [[ -n ${REDIS_SERVER:-} ]]; then
		[[ -x $REDIS_SERVER ]] || fail "The variable REDIS_SERVER names no program: $REDIS_SERVER" "Correct it, or unset it."
	elif ! have redis-server; then
		can_apt || fail "There is no redis-server on PATH, and the tests need one." \
			"Install it: apt-get install redis-server (Debian, Ubuntu), dnf install redis (Fedora), brew install redis (macOS)." \
			"Or set REDIS_SERVER to its path."
		apt_install redis-server
	fi
}

main "$@"
