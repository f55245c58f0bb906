#!/usr/bin/env bash
# Builds, with Go, two programs that some tests use where they are there. Neither is needed to run anything here.
#
#   compose/tools.sh compose     docker compose, to check the compose files   → .local/bin/docker-compose
#   compose/tools.sh kubo        a real IPFS node, to compare with            → .local/bin/ipfs
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly COMPOSE_VERSION=v5.6.0
readonly KUBO_VERSION=v0.39.0
readonly TARGET=$PWD/.local/bin

command -v go >/dev/null || { echo "tools: Go is needed to build this: https://go.dev/dl" >&2; exit 1; }
mkdir -p "$TARGET"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# `go install` refuses a module with exclude or replace directives, so it is built as the main module, in a copy.
build() { # MODULE VERSION PACKAGE OUTPUT [LINKER_FLAGS]
  local source
  source=$(cd "$work" && go mod download -json "$1@$2" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  cp -r "$source" "$work/source"
  chmod -R u+w "$work/source"
  # Kubo pins a hash map that reads internals of Go up to 1.25; its newer versions know newer Go as well.
  if grep -q 'github.com/cockroachdb/swiss ' "$work/source/go.mod"; then
    (cd "$work/source" && go get github.com/cockroachdb/swiss@latest)
  fi
  (cd "$work/source" && go build -trimpath -ldflags "-s -w ${5:-}" -o "$TARGET/$4" "$3")
}

case "${1:-}" in
  compose)
    module=github.com/docker/compose/v5
    build $module $COMPOSE_VERSION ./cmd docker-compose "-X $module/internal.Version=$COMPOSE_VERSION"
    "$TARGET/docker-compose" version
    ;;
  kubo)
    build github.com/ipfs/kubo $KUBO_VERSION ./cmd/ipfs ipfs
    "$TARGET/ipfs" --version
    ;;
  *)
    sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 2
    ;;
esac
