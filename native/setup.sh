#!/bin/sh
# From a fresh clone to a built tree: npm packages as locked, the addon, the TypeScript. Safe to repeat; does
# nothing that is already done.
set -eu
cd "$(dirname "$0")/.."
. native/node-headers.sh
node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' || {
  echo "xksd: needs Node 20.19 or later, this is $(node --version)." >&2
  exit 1
}
require_build_tools
prefix=$(node_header_prefix)
stamp=node_modules/.xksd-lock
# What a build needs is not there after `npm prune --omit=dev`, whatever the stamp says.
has_build_packages() { [ -f node_modules/typescript/bin/tsc ] && [ -f node_modules/node-gyp/bin/node-gyp.js ]; }
# A node_modules that is a link belongs to another checkout, which keeps it up to date.
if [ ! -L node_modules ] && { ! has_build_packages || ! cmp -s package-lock.json "$stamp"; }; then
  echo "xksd: installing npm packages" >&2
  # Without nodedir node-gyp would download headers; only the registry is assumed to be in reach.
  npm_config_nodedir="$prefix" npm ci --no-audit --no-fund --loglevel=error >&2
  cp package-lock.json "$stamp"
fi
sh native/build.sh
npm run --silent build:ts
