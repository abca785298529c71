#!/bin/bash
# As the official image does: options alone mean telegraf; root lets telegraf ping and bind low ports, then steps down.
set -e
if [ "${1:0:1}" = - ]; then
  set -- telegraf "$@"
fi
if [ "$(id -u)" != 0 ]; then
  exec "$@"
fi
setcap cap_net_raw,cap_net_bind_service+ep /usr/bin/telegraf || echo "no capabilities for telegraf: no ping" >&2
# Groups given by `docker run --group-add` (the Docker socket's, say) stay; root's goes.
groups=$(id -Gn | tr ' ' '\n' | grep -vx -e root -e telegraf | paste -sd, - || true)
HOME=/etc/telegraf exec setpriv --reuid telegraf --regid telegraf --groups "telegraf${groups:+,$groups}" "$@"
