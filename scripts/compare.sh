#!/usr/bin/env bash
# The same work on Syncline, on a plain relay and on the servers people would otherwise pick, in the same run:
#   scripts/compare.sh                     everything, five rounds (about half an hour), writes docs/BENCHMARKS.md
#   scripts/compare.sh --quick             everything once and briefly: whether it works
#   scripts/compare.sh --only fanout-10,joins --runs 3
#   scripts/compare.sh --list
# With any argument the result is printed instead of written; lines of the runs are in benches/results/ either way.
set -euo pipefail
cd "$(dirname "$0")/.."

npm_home=benches/load/npm
have() { command -v "$1" >/dev/null 2>&1; }
for tool in cargo node npm taskset setpriv; do
    have "$tool" || { echo "compare: $tool is missing" >&2; exit 1; }
done
[ "$(nproc)" -ge 2 ] || { echo "compare: two processors are needed, one for the server and one for the load" >&2; exit 1; }

# Ten thousand connections are open on each side.
ulimit -n "$(ulimit -Hn)"
[ "$(ulimit -n)" -ge 11000 ] || { echo "compare: ulimit -Hn is $(ulimit -Hn); 11000 open files are needed" >&2; exit 1; }

cargo build --quiet --release --bin syncline
cargo build --quiet --release -p syncline-load
load="${CARGO_TARGET_DIR:-target}/release/syncline-load"

case " $* " in *" --list "* | *" --help "*) exec "$load" compare "$@" ;; esac

# Built again when the lock file changes; one of the packages is compiled here.
if ! cmp -s "$npm_home/package-lock.json" "$npm_home/node_modules/.installed"; then
    npm ci --prefix "$npm_home" --no-progress --loglevel error
    cp "$npm_home/package-lock.json" "$npm_home/node_modules/.installed"
fi

if [ $# -gt 0 ]; then
    "$load" compare --out benches/results/partial.jsonl "$@"
    exec "$load" report benches/results/partial.jsonl
fi
"$load" compare
exec "$load" report --write
