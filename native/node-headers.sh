# Sourced by the build scripts. Prints the prefix whose include/node holds Node's headers, or says in one
# sentence what is missing. The addon and pkcs11js use only Node-API, which is ABI-stable, so headers of another
# Node on this host do when the running Node (npx -p node@24 …) came without its own.
node_header_prefix() {
  own=$(node -p 'require("path").resolve(process.execPath, "../..")')
  for prefix in "$own" /usr /usr/local; do
    if [ -f "$prefix/include/node/node_api.h" ]; then
      printf '%s\n' "$prefix"
      return 0
    fi
  done
  echo "xksd: Node's headers are missing: no include/node/node_api.h beside $(command -v node) ($own), in /usr or in /usr/local; install Node from a distribution that ships them (nodejs.org archives and NodeSource packages do, Debian has libnode-dev)." >&2
  return 1
}

require_build_tools() {
  for tool in g++ make python3; do
    command -v "$tool" >/dev/null 2>&1 || {
      echo "xksd: building the native addon needs '$tool', which is not installed (on Debian: apt-get install g++ make python3)." >&2
      return 1
    }
  done
}
