#!/bin/bash
# Starts influxd as the official influxdb 2 image does. With DOCKER_INFLUXDB_INIT_MODE=setup and no database yet, a
# first set-up runs on a port of its own; if it fails, what it made is removed, so the next start tries again.
set -eo pipefail

if [ "${1:0:1}" = - ]; then
  set -- influxd "$@"
fi
if [ "$1" != influxd ]; then
  exec "$@"
fi

mkdir -p "$(dirname "$INFLUXD_BOLT_PATH")" "$INFLUXD_ENGINE_PATH"
as_influxdb=()
if [ "$(id -u)" = 0 ]; then
  chown -R influxdb:influxdb "$(dirname "$INFLUXD_BOLT_PATH")" "$INFLUXD_ENGINE_PATH" /etc/influxdb2
  as_influxdb=(setpriv --reuid influxdb --regid influxdb --init-groups)
fi

# USERNAME, PASSWORD and ADMIN_TOKEN may also come from the file that <name>_FILE names.
for name in USERNAME PASSWORD ADMIN_TOKEN; do
  variable=DOCKER_INFLUXDB_INIT_$name file=DOCKER_INFLUXDB_INIT_${name}_FILE
  if [ -n "${!file}" ]; then
    if [ ! -r "${!file}" ]; then
      echo "$file is set, but ${!file} cannot be read" >&2
      exit 1
    fi
    printf -v "$variable" %s "$(cat "${!file}")"
  fi
done

# "90d" or "1w12h" as seconds; 0 is for ever.
seconds() {
  local rest=$1 total=0
  local -A unit=([w]=604800 [d]=86400 [h]=3600 [m]=60 [s]=1)
  while [[ $rest =~ ^([0-9]+)([wdhms])(.*)$ ]]; do
    total=$((total + BASH_REMATCH[1] * unit[${BASH_REMATCH[2]}])) rest=${BASH_REMATCH[3]}
  done
  if [ -n "$rest" ] && [ "$rest" != 0 ]; then
    echo "DOCKER_INFLUXDB_INIT_RETENTION: $1 is no duration such as 90d" >&2
    return 1
  fi
  echo "$total"
}

undo() {
  echo "first set-up failed: removing what it made" >&2
  if [ -n "$server" ]; then
    kill "$server" 2>/dev/null || true
    wait "$server" || true
  fi
  rm -rf "$INFLUXD_BOLT_PATH" "$(dirname "$INFLUXD_BOLT_PATH")/influxd.sqlite" "${INFLUXD_ENGINE_PATH:?}"/*
}

set_up() {
  local url=http://127.0.0.1:9999 name request keep answer
  for name in USERNAME PASSWORD ORG BUCKET; do
    variable=DOCKER_INFLUXDB_INIT_$name
    if [ -z "${!variable}" ]; then
      echo "$variable is missing: no set-up" >&2
      exit 1
    fi
  done
  keep=$(seconds "${DOCKER_INFLUXDB_INIT_RETENTION:-0}")

  trap undo EXIT
  # Started directly, not through a function: $! has to be influxd itself.
  "${as_influxdb[@]}" influxd --http-bind-address 127.0.0.1:9999 --reporting-disabled &
  server=$!
  until curl --silent --fail --output /dev/null "$url/ping"; do
    kill -0 "$server"
    sleep 0.1
  done

  # The secrets go by way of the environment and a pipe, so that no list of processes shows them.
  request=$(user=$DOCKER_INFLUXDB_INIT_USERNAME password=$DOCKER_INFLUXDB_INIT_PASSWORD keep=$keep \
    org=$DOCKER_INFLUXDB_INIT_ORG bucket=$DOCKER_INFLUXDB_INIT_BUCKET token=$DOCKER_INFLUXDB_INIT_ADMIN_TOKEN \
    jq -n '{username: env.user, password: env.password, org: env.org, bucket: env.bucket,
            retentionPeriodSeconds: (env.keep | tonumber)}
           + if env.token == "" then {} else {token: env.token} end')
  answer=$(curl --silent --show-error --data @- "$url/api/v2/setup" <<<"$request")
  if ! jq --exit-status .auth >/dev/null <<<"$answer"; then
    echo "set-up refused: $answer" >&2
    exit 1
  fi
  INFLUX_HOST=$url run-parts --regex '\.sh$' --report --exit-on-error /docker-entrypoint-initdb.d

  kill "$server"
  wait "$server" || true
  trap - EXIT
}

if [ "$DOCKER_INFLUXDB_INIT_MODE" = setup ] && [ ! -e "$INFLUXD_BOLT_PATH" ] && [[ ${2:-run} = @(run|-*) ]]; then
  trap 'exit 143' TERM INT  # asked to stop in the middle: undo
  set_up
fi

exec "${as_influxdb[@]}" "$@"
