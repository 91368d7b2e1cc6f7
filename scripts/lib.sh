# Shared by the scripts in this folder; sourced, never run.
# shellcheck shell=bash disable=SC2034 # the variables are for those scripts

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache="${XDG_CACHE_HOME:-$HOME/.cache}/weir"

say() { printf '%s\n' "$*" >&2; }

# fail WHAT [WHAT TO DO]: the end of the script.
fail() {
	printf 'error: %s\n' "$1" >&2
	shift
	for line in "$@"; do printf '  %s\n' "$line" >&2; done
	exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

in_ci() { [[ ${CI:-} == true ]]; }

# version_at_least HAVE WANT: compares dotted numbers, major and minor.
version_at_least() {
	local have_major have_minor want_major want_minor
	IFS=. read -r have_major have_minor _ <<<"$1"
	IFS=. read -r want_major want_minor _ <<<"$2"
	have_minor=${have_minor:-0} want_minor=${want_minor:-0}
	((have_major > want_major || (have_major == want_major && ${have_minor%%[!0-9]*} >= ${want_minor%%[!0-9]*})))
}

# can_apt: root on Debian or a child of it.
can_apt() { [[ $(id -u) == 0 ]] && have apt-get; }

# apt_install PACKAGE...: installs, with the package lists fetched first if the
# ones at hand do not do.
apt_install() {
	local log
	log=$(mktemp)
	say "Installing $* with apt-get …"
	if ! apt_get install "$@" >"$log" 2>&1 && ! { apt_get update && apt_get install "$@"; } >"$log" 2>&1; then
		tail -n 20 "$log" >&2
		rm -f "$log"
		fail "apt-get could not install $*." "Its last lines are above. Install it by hand and run this again."
	fi
	rm -f "$log"
}

apt_get() {
	local verb=$1
	shift
	if [[ $verb == update ]]; then
		apt-get update
	else
		DEBIAN_FRONTEND=noninteractive apt-get "$verb" -y --no-install-recommends "$@" </dev/null
	fi
}

# digest FILE...: one SHA-256 over all of them.
digest() {
	if have sha256sum; then
		cat "$@" | sha256sum | cut -d' ' -f1
	else
		cat "$@" | shasum -a 256 | cut -d' ' -f1
	fi
}
