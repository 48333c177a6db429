#!/usr/bin/env bash
# What tables cost, in memory and over HTTP, in one interleaved run:
#   scripts/bench-tables.sh                 everything, five rounds (two minutes); writes docs/benchmarks/tables.md
#   scripts/bench-tables.sh --try           everything once and briefly: whether it works; its figures mean nothing
#   scripts/bench-tables.sh --only cost     a part: cost, memory, patch, events, bulk; --rounds N, --dir DIR, --help
# With any argument the tables are printed instead of written. The servers' data lies in DIR, on the disk to be measured.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" = --try ]; then
    shift
    exec cargo test --quiet --bench tables -- --test "$@"
fi
[ $# -gt 0 ] || set -- --write docs/benchmarks/tables.md
exec cargo bench --quiet --bench tables -- "$@"
