#!/bin/sh
# A Redis for the bus alone: nothing is kept, and one user may do what nodes do.
#   REDIS_PASSWORD=… sh redis.conf.sh | redis-server -
# The user's name and password stand in bus.url, its channels begin with bus.prefix.
set -eu
cat <<EOF
port ${REDIS_PORT:-6379}
bind ${REDIS_BIND:-*}
protected-mode no
save ""
appendonly no
maxmemory 256mb
client-output-buffer-limit pubsub 32mb 8mb 60
user default off
user syncline on >${REDIS_PASSWORD:?} resetkeys resetchannels &syncline:* -@all +hello +ping +publish +subscribe +unsubscribe
EOF
