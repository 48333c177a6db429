#!/usr/bin/env bash
# Several nodes on one PostgreSQL and one Redis: latency between nodes, three nodes against one, and many connections at rest:
#   scripts/bench-cluster.sh                    everything (six minutes); writes docs/benchmarks/cluster.md
#   scripts/bench-cluster.sh --try              everything once and briefly: whether it works; its figures mean nothing
#   scripts/bench-cluster.sh --only latency     a part: latency, throughput, idle; --rounds N, --connections N, --help
# With any argument the tables are printed instead of written. SYNCLINE_BIN chooses another binary than a fresh release build. Each
# process needs 20 000 open files for the whole; with fewer give fewer --connections.
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in redis-server redis-cli setpriv; do
    command -v "$tool" >/dev/null || { echo "bench-cluster: $tool is missing; bash scripts/setup.sh" >&2; exit 1; }
done
if [ -z "${SYNCLINE_BIN:-}" ]; then
    cargo build --quiet --release --bin syncline
    export SYNCLINE_BIN="${CARGO_TARGET_DIR:-$PWD/target}/release/syncline"
fi
[ -d tests/interop/node_modules ] || npm ci --prefix tests/interop --no-progress --loglevel error
[ $# -gt 0 ] || set -- --write docs/benchmarks/cluster.md
ulimit -n "$(ulimit -Hn)"
exec node benches/cluster/main.mjs "$@"
