#!/usr/bin/env bash
# Looks at the files of deployments as the programs that read them do.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# schemas: kubernetes-validate, which holds those of Kubernetes, in .tools/deploy.
schemas() {
	local dir="$root/.tools/deploy" pins="$root/deploy/test/requirements.txt" stamp log
	stamp=$(digest "$pins")
	if [[ -x $dir/bin/kubernetes-validate && -f $dir/.stamp && $(<"$dir/.stamp") == "$stamp" ]]; then return; fi
	if ! have python3 || ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
		can_apt || { say "SKIPPED Kubernetes' schemas: they need python3 with venv."; return; }
		apt_install python3-venv
	fi
	say "Installing kubernetes-validate into .tools/deploy …"
	rm -rf "$dir"
	log=$(mktemp)
	if ! { python3 -m venv "$dir" &&
		"$dir/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --requirement "$pins"; } >"$log" 2>&1; then
		tail -n 20 "$log" >&2
		rm -f "$log"
		fail "kubernetes-validate could not be installed." "Check the network and pip's settings, then run this again."
	fi
	rm -f "$log"
	echo "$stamp" >"$dir/.stamp"
}

main() {
	schemas
	PATH="$root/.tools/deploy/bin:$PATH"
	if in_ci && can_apt && ! have systemd-analyze; then apt_install systemd; fi
	"$root/scripts/envoy.sh"
	local module
	for module in deploy/test deploy/monitoring; do
		go vet -C "$root/$module" ./...
		# Not from Go's cache of results, which knows nothing of files outside of the module.
		go test -C "$root/$module" -count 1 ./...
	done
}

main "$@"
