#!/usr/bin/env bash
# Fetches what the dashboard has of others again, by npm: htmx and uPlot, packed, with their
# licences. They are in the repository, so that weir needs nothing from elsewhere.
set -euo pipefail
cd "$(dirname "$0")/.."

htmx=2.0.11 uplot=1.6.32
assets=$PWD/dashboard/assets
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for package in "htmx.org@$htmx" "uplot@$uplot"; do
	name=${package%@*}
	mkdir "$name"
	tar xzf "$(npm pack --silent "$package")" -C "$name" --strip-components=1
done
for file in htmx.org/dist/htmx.min.js uplot/dist/uPlot.iife.min.js uplot/dist/uPlot.min.css; do
	gzip -9n <"$file" >"$assets/$(basename "$file").gz"
done
{
	echo "htmx $htmx (htmx.min.js)"
	echo
	cat htmx.org/LICENSE
	echo
	echo "uPlot $uplot (uPlot.iife.min.js, uPlot.min.css)"
	echo
	cat uplot/LICENSE
} >"$assets/LICENSES.txt"
ls -l "$assets"
