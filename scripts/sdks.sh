#!/usr/bin/env bash
# Installs the official OpenAI SDKs that the end-to-end tests drive weir with,
# as pinned in e2e/sdk, and only when the pins have changed:
#
#   Python  .tools/py             a virtual environment
#   Node    e2e/sdk/node/node_modules
#   Go      .tools/sdk-go         the check program, built
#
# Where Python or Node is missing the tests for it are skipped; with CI=true
# that is an error.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

min_python=3.10
min_node=20

# skip WHAT WHY WHAT-TO-DO: a line for the user, an error in CI.
skip() {
	if in_ci; then fail "$1: $2" "$3"; fi
	say "SKIPPED $1: $2 $3"
}

# current STAMP-FILE STAMP
current() { [[ -f $1 && $(<"$1") == "$2" ]]; }

# quietly WHAT-TO-DO COMMAND...: shows what the command printed only if it fails.
quietly() {
	local log todo=$1
	shift
	log=$(mktemp)
	if ! "$@" >"$log" 2>&1 </dev/null; then
		tail -n 20 "$log" >&2
		rm -f "$log"
		fail "This failed: $*" "$todo"
	fi
	rm -f "$log"
}

python_sdk() {
	local dir="$root/.tools/py" pins="$root/e2e/sdk/python/requirements.txt" version stamp
	have python3 || { skip "Python SDK" "there is no python3 on PATH." "Install Python $min_python or newer."; return; }
	version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
	version_at_least "$version" "$min_python" ||
		{ skip "Python SDK" "python3 is $version." "Install Python $min_python or newer."; return; }
	stamp="$version $(digest "$pins")"
	if current "$dir/.stamp" "$stamp" && [[ -x $dir/bin/python ]]; then return; fi

	if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
		can_apt || { skip "Python SDK" "python3 has no venv module." "Install it, on Debian and Ubuntu: apt-get install python3-venv."; return; }
		apt_install python3-venv
	fi
	say "Installing the Python SDK into .tools/py …"
	rm -rf "$dir"
	mkdir -p "$root/.tools"
	quietly "Remove .tools/py and run this again." python3 -m venv "$dir"
	quietly "Check the network and pip's settings, then run this again." \
		"$dir/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --only-binary=:all: --requirement "$pins"
	echo "$stamp" >"$dir/.stamp"
}

node_sdk() {
	local dir="$root/e2e/sdk/node" version stamp
	if ! have node || ! have npm; then
		skip "Node SDK" "there is no node with npm on PATH." "Install Node $min_node or newer."
		return
	fi
	version=$(node --version)
	version=${version#v}
	version_at_least "$version" "$min_node" || { skip "Node SDK" "node is $version." "Install Node $min_node or newer."; return; }
	stamp="$(digest "$dir/package.json" "$dir/package-lock.json")"
	if current "$dir/node_modules/.stamp" "$stamp"; then return; fi

	say "Installing the Node SDK into e2e/sdk/node/node_modules …"
	quietly "Check the network and npm's settings, then run this again." \
		npm --prefix "$dir" ci --no-audit --no-fund --ignore-scripts --loglevel=error
	echo "$stamp" >"$dir/node_modules/.stamp"
}

# The build is a no-op when nothing has changed.
go_sdk() {
	[[ -e $root/.tools/sdk-go ]] || say "Building the check program of the Go SDK …"
	go build -C "$root/e2e/sdk/go" -trimpath -o "$root/.tools/sdk-go" .
}

main() {
	python_sdk
	node_sdk
	go_sdk
}

main "$@"
