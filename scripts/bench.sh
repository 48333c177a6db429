#!/usr/bin/env bash
# The criterion benchmarks: scripts/bench.sh [--try] [filter]. With --try each runs once, unmeasured and not optimised: it
# still works.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" = --try ]; then
    shift
    exec cargo test --quiet --bench hot -- --test "$@"
fi
exec cargo bench --bench hot -- "$@"
