#!/bin/bash
# get-axe.sh FOLDER: writes axe-core's accessibility rules (MPL-2.0, by Deque) to FOLDER/axe.min.js, for the tests of our
# pages; they are not part of any published package. Does nothing if the file exists. Needs npm; the bytes are checked.
set -euo pipefail
[ $# -eq 1 ] || { sed -n '2,3s/^# //p' "$0" >&2; exit 2; }
version=4.14.1
sha256=29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c
folder=$(realpath -m "$1"); mkdir -p "$folder"
holds() { echo "$sha256  $folder/axe.min.js" | sha256sum --check --status 2>/dev/null; }
if ! holds; then
  work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
  cd "$work"
  npm pack --silent "axe-core@$version" >/dev/null
  tar -xzf "axe-core-$version.tgz" package/axe.min.js
  mv package/axe.min.js "$folder/axe.min.js"
  holds || { rm "$folder/axe.min.js"; echo "axe-core $version is not the one that was reviewed" >&2; exit 1; }
fi
echo "axe-core $version"
