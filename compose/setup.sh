#!/usr/bin/env bash
# Brings everything that the demo and the tests need onto a Debian machine that has Python >= 3.11.
#
#   compose/setup.sh python      .venv with the packages of pyproject.toml, held by constraints.txt
#   compose/setup.sh services    redis-server and anvil, where the machine has none
#
# Nothing outside the checkout changes where that can be avoided: programs that are missing are unpacked into .local,
# so that no system service starts. Only if that fails, and for Python's venv module, apt-get installs them as root.
# A second run finds everything in place and is done at once.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly ROOT=$PWD
readonly LOCAL=$ROOT/.local
readonly VENV=$ROOT/.venv
readonly LOG=$LOCAL/setup.log
readonly ANVIL_VERSION=1.7.1
PYTHON=${PYTHON:-python3}

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { printf 'setup: %s\n' "$@" >&2; exit 1; }

# Runs a command whose output matters only if it fails.
quietly() {
  mkdir -p "$LOCAL"
  if ! "$@" >"$LOG" 2>&1; then
    printf 'setup: "%s" failed:\n' "$*" >&2
    tail -n 20 "$LOG" | sed 's/^/  | /' >&2
    return 1
  fi
}

# Prints the command prefix that makes one root: nothing for root, "sudo -n" where it needs no password. Else fails.
root_prefix() {
  if [ "$(id -u)" -eq 0 ]; then
    return 0
  fi
  command -v sudo >/dev/null && sudo -n true 2>/dev/null && echo "sudo -n"
}

apt_install() { # PACKAGE...
  local prefix
  command -v apt-get >/dev/null || return 1
  prefix=$(root_prefix) || return 1
  say "installing $* by apt-get"
  # shellcheck disable=SC2086 # the prefix is zero or two words
  quietly $prefix apt-get update -qq || say "the package lists could not be renewed; trying those that are here"
  # shellcheck disable=SC2086
  quietly $prefix env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

# --- Python ---------------------------------------------------------------------------------------------------------

python_usable() { "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
venv_usable() { "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null; }

setup_python() {
  command -v "$PYTHON" >/dev/null ||
    fail "$PYTHON was not found. Install Python 3.11 or newer, or name it: make PYTHON=/path/to/python3 …"
  python_usable ||
    fail "$PYTHON is $("$PYTHON" --version 2>&1), and 3.11 is the oldest that works. Name another: make PYTHON=python3.12 …"
  if ! venv_usable; then
    apt_install python3-venv || true
    venv_usable || fail "$PYTHON lacks its venv module, and this user may not install it." \
      "Type, as root:  apt-get install python3-venv     and then make again."
  fi
  if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
    say "making .venv"
    rm -rf "$VENV"
    "$PYTHON" -m venv "$VENV"
  fi
  say "installing packages into .venv (the first time this takes a minute or two)"
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --use-pep517 \
    --constraint constraints.txt --editable '.[dev]'
  touch "$VENV/.ready"
}

# --- Redis ----------------------------------------------------------------------------------------------------------

redis_there() { command -v redis-server >/dev/null || "$LOCAL/bin/redis-server" --version >/dev/null 2>&1; }

# Unpacks Debian's redis-server, and those of its libraries that are missing, into .local/redis. Needs no root: apt-get
# gets lists and a cache of its own there.
unpack_redis() {
  local home=$LOCAL/redis names
  command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
  say "unpacking redis-server into .local"
  rm -rf "$home"
  mkdir -p "$home/lists/partial" "$home/cache/archives/partial" "$home/debs" "$home/root"
  chmod -R go+rX "$home"
  local -a apt=(apt-get -qq -o "Dir::State::lists=$home/lists" -o "Dir::Cache=$home/cache" -o Debug::NoLocking=1
    -o APT::Sandbox::User=)
  quietly "${apt[@]}" update || return 1
  names=$("${apt[@]}" -s install --no-install-recommends redis-server | awk '/^Inst/ {print $2}') || return 1
  # shellcheck disable=SC2086 # one argument a package
  (cd "$home/debs" && quietly "${apt[@]}" download ${names:-redis-server redis-tools}) || return 1
  local deb
  for deb in "$home"/debs/*.deb; do
    dpkg -x "$deb" "$home/root"
  done
  rm -rf "$home/lists" "$home/cache" "$home/debs"
  mkdir -p "$LOCAL/bin"
  cat >"$LOCAL/bin/redis-server" <<'WRAPPER'
#!/bin/sh
root=$(dirname "$(readlink -f "$0")")/../redis/root
for folder in "$root"/usr/lib/*-linux-gnu* "$root"/lib/*-linux-gnu*; do
  [ -d "$folder" ] && LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
done
export LD_LIBRARY_PATH
exec "$root/usr/bin/redis-server" "$@"
WRAPPER
  chmod +x "$LOCAL/bin/redis-server"
  "$LOCAL/bin/redis-server" --version >/dev/null
}

setup_redis() {
  redis_there && return
  unpack_redis || {
    rm -f "$LOCAL/bin/redis-server"
    apt_install redis-server || true
  }
  redis_there || fail "redis-server is missing and could not be unpacked or installed." \
    "Type, as root:  apt-get install redis-server     and then make again."
}

# --- anvil ----------------------------------------------------------------------------------------------------------

anvil_there() {
  "${ANVIL_PATH:-${FITCHAIN_ANVIL:-anvil}}" --version >/dev/null 2>&1 || "$LOCAL/bin/anvil" --version >/dev/null 2>&1
}

# The npm package holds the program itself, one package a platform; its install script is not needed. npm is that of
# the packages in .venv, whose version is known, else the one on PATH.
install_anvil() { # NPM
  say "installing anvil $ANVIL_VERSION into .local"
  mkdir -p "$LOCAL/anvil" "$LOCAL/bin"
  quietly "$1" install --prefix "$LOCAL/anvil" --no-save --no-package-lock --ignore-scripts --no-audit --no-fund \
    --no-update-notifier "@foundry-rs/anvil@$ANVIL_VERSION" || return 1
  local program
  for program in "$LOCAL"/anvil/node_modules/@foundry-rs/anvil-*/bin/anvil; do
    if [ -f "$program" ]; then
      chmod +x "$program"
      ln -sfn "../${program#"$LOCAL"/}" "$LOCAL/bin/anvil"
    fi
  done
  "$LOCAL/bin/anvil" --version >/dev/null
}

setup_anvil() {
  anvil_there && return
  local npm
  for npm in "$VENV/bin/npm" npm; do
    if command -v "$npm" >/dev/null && install_anvil "$npm"; then
      return
    fi
  done
  fail "anvil, the development chain, is missing and npm could not bring it." \
    "Install Foundry's anvil, and name it if it is not on PATH:  export ANVIL_PATH=/path/to/anvil"
}

case "${1:-}" in
  python) setup_python ;;
  services)
    setup_redis
    setup_anvil
    ;;
  *)
    sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 2
    ;;
esac
