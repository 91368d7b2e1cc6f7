#!/usr/bin/env bash
# Vets and tests every module but those below deploy, see deploy-test.sh. Arguments go to go test, for example
# scripts/test.sh -run TestPlain ./e2e; without any it takes every package.
# GOTEST replaces the command "go test".
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# race: the flag, where the machine can do it; on Linux it takes a C compiler.
race() {
	if [[ $(go env CGO_ENABLED) != 1 && $(go env GOOS) == linux ]] && in_ci && can_apt; then
		apt_install gcc libc6-dev
	fi
	if [[ $(go env CGO_ENABLED) == 1 || $(go env GOOS) == darwin ]]; then
		echo -race
	elif in_ci; then
		fail "The race detector needs a C compiler." "Install gcc or clang, with CGO_ENABLED not set to 0."
	else
		say "SKIPPED the race detector: it needs a C compiler. Install gcc or clang to have it."
	fi
}

# tests ARGS...: $GOTEST and $flag are words and may be none.
tests() {
	# shellcheck disable=SC2086
	${GOTEST:-go test} $flag -timeout 25m "$@"
}

main() {
	local flag
	cd "$root"
	flag=$(race)
	say "Vetting …"
	go vet ./...
	go vet -C tools ./...
	go vet -C e2e/sdk/go ./...
	say "Testing …"
	if (($#)); then
		tests "$@"
		return
	fi
	tests ./...
	# The race detector makes the tests below too slow to split at every byte, and
	# its memory tells nothing.
	[[ -z $flag ]] || flag="" tests -run 'Recorded|ByteForByte|TwoReplicas|UnknownKeys' ./openai ./extproc ./e2e
	[[ -z $flag ]] || flag="" tests -run 'TestStore/histories' ./ratelimit/memstore ./ratelimit/redisstore
}

main "$@"
