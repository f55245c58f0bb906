#!/usr/bin/env bash
# Makes the secrets of docker-compose.yml that can be made, in compose/secrets, and says which ones you have to bring.
# What is there already is left as it is, so running it again is harmless.
#
# The folder is for its owner only. The files in it may be read by everybody: inside a container each is mounted on its
# own and must be readable by an unprivileged user with another number; on the host nobody gets past the folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
mkdir -p secrets
chmod 0700 secrets
umask 022

make_secret() { # NAME VALUE
  if [ ! -e "secrets/$1" ]; then
    printf '%s' "$2" >"secrets/$1"
    echo "made secrets/$1"
  fi
}

random() { od -vAn -N24 -tx1 /dev/urandom | tr -d ' \n'; }

make_secret redis_broker_password "$(random)"
make_secret redis_cache_password "$(random)"
make_secret fitchain_broker_url "redis://:$(cat secrets/redis_broker_password)@redis-broker:6379/0"
make_secret fitchain_cache_url "redis://:$(cat secrets/redis_cache_password)@redis-cache:6379/0"
make_secret fitchain_flower_auth "operator:$(random)"

missing=0
want() { # NAME WHAT
  if [ ! -e "secrets/$1" ]; then
    echo "bring compose/secrets/$1: $2"
    missing=1
  fi
}
want fitchain_rpc_url "the URL of the chain's RPC endpoint, or several separated by commas"
want keystore "the encrypted keyfile of your verifier account (fitchain-verifier keystore new makes one)"
want keystore_password "its password"
exit $missing
