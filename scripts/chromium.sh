#!/usr/bin/env bash
# Makes sure that there is a Chromium for the tests of web pages: $CHROMIUM or one on PATH.
# The tests start and stop it themselves. Where there is none, and none can be installed,
# those tests are skipped; with CI=true that is an error.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

main() {
	local name
	if [[ -n ${CHROMIUM:-} ]]; then
		[[ -x $CHROMIUM ]] || fail "The variable CHROMIUM names no program: $CHROMIUM" "Correct it, or unset it."
		return
	fi
	for name in chromium chromium-browser google-chrome google-chrome-stable; do
		if have "$name"; then return; fi
	done
	if can_apt; then
		apt_install chromium
	elif in_ci; then
		fail "There is no Chromium on PATH, and the tests of web pages need one." \
			"Install it: apt-get install chromium (Debian), or set CHROMIUM to its path."
	else
		say "SKIPPED the tests of web pages: there is no Chromium on PATH. Install it, or set CHROMIUM to its path."
	fi
}

main "$@"
