#!/bin/bash
# Creates the storage folder and the login of the form. 1Panel runs this script in the folder of the app, before it
# starts the container.
set -euo pipefail

# Prints the value of a field of the form.
value() { sed -n "s/^$1=//p" .env | sed 's/^"\(.*\)"$/\1/'; }

image=$(sed -n 's/^ *image: *//p' docker-compose.yml)
owner=$(sed -n 's/^ *user: *"\(.*\)"$/\1/p' docker-compose.yml)
user=$(value IMGSYNC_USER)

mkdir -p data auth
chown -R "$owner" data auth
value IMGSYNC_USER_PASSWORD |
    docker run --rm --interactive --network none --user "$owner" --volume "$PWD/auth:/auth" \
        "$image" htpasswd /auth/htpasswd "$user"
