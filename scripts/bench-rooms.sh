#!/usr/bin/env bash
# Rooms over Socket.IO, beside the npm server, and under a flood of connections:
#   scripts/bench-rooms.sh                   everything, three rounds (five minutes); writes docs/benchmarks/rooms.md
#   scripts/bench-rooms.sh --try             everything once and briefly: whether it works; its figures mean nothing
#   scripts/bench-rooms.sh --only latency    a part: latency, flood; --rounds N, --help
# With any argument the tables are printed instead of written. SYNCLINE_BIN chooses another binary than a fresh release build. The
# server's data lies in target/bench-rooms, on the disk to be measured.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${SYNCLINE_BIN:-}" ]; then
    cargo build --quiet --release --bin syncline
    export SYNCLINE_BIN="${CARGO_TARGET_DIR:-$PWD/target}/release/syncline"
fi
[ -d benches/rooms/node_modules ] || npm ci --prefix benches/rooms --no-progress --loglevel error
[ $# -gt 0 ] || set -- --write docs/benchmarks/rooms.md
# Each server has the first processor for itself.
[ "$(nproc)" -gt 1 ] && exec taskset -c 1 node benches/rooms/main.mjs "$@"
exec node benches/rooms/main.mjs "$@"
