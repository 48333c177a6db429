#!/usr/bin/env bash
# Chromium against a real server process, at the page it serves. SYNCLINE_BIN chooses another binary.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${SYNCLINE_BIN:-}" ]; then
    make -s web
    cargo build --quiet --bin syncline
    export SYNCLINE_BIN="${CARGO_TARGET_DIR:-$PWD/target}/debug/syncline"
fi
for dir in tests/interop tests/browser; do
    [ -d "$dir/node_modules" ] || npm ci --prefix "$dir" --no-progress --loglevel error
done
cd tests/browser
exec node --test --test-reporter=spec "$@" parts.test.mjs page.test.mjs
