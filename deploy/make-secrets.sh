#!/bin/sh
# Makes what docker-compose.yml reads as secrets, once: deploy/make-secrets.sh [FOLDER]
#
#   tokens             callers that the services let in, one a line, as name:token
#   service-token      shown by the services to each other
#   client-token       for people: TUNEWRIGHT_TOKEN_FILE=deploy/secrets/client-token
#   postgres-password  of the role "tunewright"
#   pgpass             the same, as libpq reads it
#
# What is there already stays. The files are readable by their owner alone, whose number the
# containers run with: set TUNEWRIGHT_UID to it if it is not 1000.
set -eu

folder=${1:-"$(dirname "$0")/secrets"}
umask 077
mkdir -p "$folder"
cd "$folder"

# secret FILE FORMAT: writes a new one, unless the file is there. Never an empty or a short one.
secret() {
    [ ! -e "$1" ] || return 0
    made=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
    if [ "${#made}" != 64 ]; then
        echo "No secret for $1 can be made: /dev/urandom, od or tr does not do its work." >&2
        exit 1
    fi
    # shellcheck disable=SC2059 # the format is ours
    printf "$2" "$made" > "$1"
}

secret service-token 'services:%s\n'
secret client-token 'people:%s\n'
[ -e tokens ] || cat service-token client-token > tokens
secret postgres-password '%s'
[ -e pgpass ] || printf 'postgres:5432:*:tunewright:%s\n' "$(cat postgres-password)" > pgpass

uid=${TUNEWRIGHT_UID:-1000}
if [ "$(id -u)" = 0 ]; then
    chown "$uid" . service-token client-token tokens pgpass
elif [ "$(id -u)" != "$uid" ]; then
    echo "Put this into .env beside docker-compose.yml: TUNEWRIGHT_UID=$(id -u)"
fi
echo "Secrets are in $(pwd)."
