#!/usr/bin/env bash
# Fetches the pages' assets of api/webdocs again, by npm: Swagger UI and Redoc, packed, with
# their licences. They are in the repository, so that weir needs nothing from elsewhere.
set -euo pipefail
cd "$(dirname "$0")/.."

swagger=5.35.0 redoc=2.5.4
assets=$PWD/api/webdocs/assets
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for package in "swagger-ui-dist@$swagger" "redoc@$redoc"; do
	name=${package%@*}
	mkdir "$name"
	tar xzf "$(npm pack --silent "$package")" -C "$name" --strip-components=1
done
# The one picture that Redoc would get from elsewhere is an empty one here.
sed -i "s|https://cdn.redoc.ly/redoc/logo-mini.svg|data:image/svg+xml,%3Csvg xmlns=%27http://www.w3.org/2000/svg%27/%3E|" redoc/bundles/redoc.standalone.js
! grep -q cdn.redoc.ly redoc/bundles/redoc.standalone.js
mkdir -p "$assets"
for file in swagger-ui-dist/swagger-ui-bundle.js swagger-ui-dist/swagger-ui.css redoc/bundles/redoc.standalone.js; do
	gzip -9n <"$file" >"$assets/$(basename "$file").gz"
done
{
	echo "Swagger UI $swagger (swagger-ui-bundle.js, swagger-ui.css)"
	echo
	cat swagger-ui-dist/NOTICE swagger-ui-dist/LICENSE swagger-ui-dist/swagger-ui-bundle.js.LICENSE.txt
	echo
	echo "Redoc $redoc (redoc.standalone.js; the address of its logo was taken out)"
	echo
	cat redoc/LICENSE redoc/bundles/redoc.standalone.js.LICENSE.txt
} >"$assets/LICENSES.txt"
ls -l "$assets"
