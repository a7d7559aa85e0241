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
if [ ! -f build/Makefile ] || [ binding.gyp -nt build/Makefile ]; then
  node "$gyp" configure --nodedir="$prefix" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
fi
node "$gyp" build --nodedir="$prefix" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
