#!/usr/bin/env bash
# The criterion benchmarks. Fails when there are none, so that silence is never taken for a result.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! compgen -G 'benches/*.rs' >/dev/null; then
    echo "bench: there are no benchmarks in benches/ yet; nothing was measured" >&2
    exit 1
fi
exec cargo bench "$@"
