#!/usr/bin/env bash
# Several nodes with a real Redis and a real PostgreSQL, and the npm clients:
#   scripts/cluster.sh                     every test, then CLUSTER_SEEDS seeds (20) of CLUSTER_SECONDS (60) of faults: half an hour
#   scripts/cluster.sh --try               every test, and one short seed of faults (a few minutes)
#   scripts/cluster.sh FILE.test.mjs …     these; other arguments go to node --test
# CLUSTER_SEED draws the same faults again. SYNCLINE_BIN chooses another binary.
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in redis-server redis-cli setpriv; do
    command -v "$tool" >/dev/null || { echo "cluster: $tool is missing; bash scripts/setup.sh" >&2; exit 1; }
done
if [ -z "${SYNCLINE_BIN:-}" ]; then
    cargo build --quiet --bin syncline
    export SYNCLINE_BIN="${CARGO_TARGET_DIR:-$PWD/target}/debug/syncline"
fi
[ -d tests/interop/node_modules ] || npm ci --prefix tests/interop --no-progress --loglevel error
cd tests/interop/cluster

# A test starts up to six nodes and two engines: more than two at once would only wait for each other.
tests() { node --test --test-concurrency=2 --test-timeout=600000 --test-reporter=spec "$@"; }

if [ "${1:-}" = --try ]; then
    shift
    tests "$@" ./*.test.mjs
elif [ $# -gt 0 ]; then
    tests "$@"
else
    ls ./*.test.mjs | grep -v faults | { mapfile -t files; tests "${files[@]}"; }
    export CLUSTER_SEEDS="${CLUSTER_SEEDS:-20}" CLUSTER_SECONDS="${CLUSTER_SECONDS:-60}"
    node --test --test-reporter=spec faults.test.mjs
fi
