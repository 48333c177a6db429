#!/usr/bin/env bash
# Draws docs/images/demo.png anew, from the page of a real server. SYNCLINE_BIN chooses another binary.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${SYNCLINE_BIN:-}" ]; then
    make -s web
    cargo build --quiet --bin syncline
    export SYNCLINE_BIN="${CARGO_TARGET_DIR:-$PWD/target}/debug/syncline"
fi
exec node tests/browser/picture.mjs "$PWD/docs/images"
