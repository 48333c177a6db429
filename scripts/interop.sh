#!/usr/bin/env bash
# The npm clients against a real server process. SYNCLINE_BIN chooses another binary; arguments go to node --test.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${SYNCLINE_BIN:-}" ]; then
    cargo build --quiet --bin syncline
    export SYNCLINE_BIN="${CARGO_TARGET_DIR:-$PWD/target}/debug/syncline"
fi
[ -d tests/interop/node_modules ] || npm ci --prefix tests/interop --no-progress --loglevel error
cd tests/interop
exec node run.mjs "$@"
