#!/bin/sh
# Entry of the images: a secret mounted as /run/secrets/fitchain_NAME becomes the variable FITCHAIN_NAME of this one
# process, so that neither the compose file nor `docker inspect` shows it.
#
#   entrypoint.sh COMMAND…          fitchain-verifier COMMAND…
#   fitchain-health ROLE            (this file by another name) the health check of a role
set -eu
for file in /run/secrets/fitchain_*; do
  [ -f "$file" ] || continue
  name=$(basename "$file" | tr '[:lower:]' '[:upper:]')
  value=$(cat "$file")
  export "$name=$value"
done
case $(basename "$0") in
  fitchain-health) exec fitchain-verifier health "$@" ;;
  *) exec fitchain-verifier "$@" ;;
esac
