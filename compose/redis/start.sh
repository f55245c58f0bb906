#!/bin/sh
# Inside the Redis containers.   start.sh PASSWORD_FILE        runs Redis with the settings of redis.conf
#                                start.sh PASSWORD_FILE ping   succeeds if it answers
# The password is never an argument or a variable of a process that lives: it goes into a file in memory.
set -eu
password=$(cat "$1")
if [ "${2:-}" = ping ]; then
  REDISCLI_AUTH=$password redis-cli ping | grep -q PONG
  exit
fi
umask 077
{
  cat /etc/fitchain/redis.conf
  printf 'requirepass "%s"\n' "$(printf %s "$password" | sed 's/["\\]/\\&/g')"
} >/tmp/redis.conf
exec redis-server /tmp/redis.conf
