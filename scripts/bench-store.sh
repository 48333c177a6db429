#!/usr/bin/env bash
# The local store beside a bare append, sled alone, redb and fjall, in one interleaved run:
#   scripts/bench-store.sh                      everything, five rounds (under six minutes); writes docs/benchmarks/store.md
#   scripts/bench-store.sh --try                everything once and briefly: whether it works; its figures mean nothing
#   scripts/bench-store.sh --only latency       a part; --runs N, --dir DIR (on the disk to be measured), --full, --help
# With any argument the tables are printed instead of written. A line for each measurement is in results.jsonl of DIR.
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
cargo build --quiet --release --manifest-path benches/store/Cargo.toml
bench="$CARGO_TARGET_DIR/release/syncline-bench-store"
[ $# -gt 0 ] || set -- --write docs/benchmarks/store.md
exec "$bench" --dir "$CARGO_TARGET_DIR/bench-store" "$@"
