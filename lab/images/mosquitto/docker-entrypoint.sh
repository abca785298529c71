#!/bin/sh
# As the official 2.0 image does: root hands everything below /mosquitto to the broker's user, and the broker,
# started as root, steps down to that user by itself.
set -e
if [ "$(id -u)" = 0 ] && [ -d /mosquitto ]; then
  chown -R mosquitto:mosquitto /mosquitto || true  # a part may be mounted read-only
fi
exec "$@"
