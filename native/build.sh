#!/bin/sh
# Builds the addon into build/Release. Incremental: a second run with nothing changed takes well under a second.
set -eu
cd "$(dirname "$0")/.."
. native/node-headers.sh
require_build_tools
prefix=$(node_header_prefix)
gyp=node_modules/node-gyp/bin/node-gyp.js
log=build/native-build.log
mkdir -p build
# The Makefile names files by paths that start here: it is of no use in a tree that was moved or copied, or to another Node.
place="$(pwd -P) $prefix"
stamp=build/configured-for
if [ ! -f build/Makefile ] || [ binding.gyp -nt build/Makefile ] || [ "$(cat "$stamp" 2>/dev/null)" != "$place" ]; then
  rm -rf build/Makefile build/Release
  node "$gyp" configure --nodedir="$prefix" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
  printf '%s\n' "$place" >"$stamp"
fi
node "$gyp" build --nodedir="$prefix" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
