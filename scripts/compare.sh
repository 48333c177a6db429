#!/usr/bin/env bash
# The same work on other servers, in the same run. Fails while the comparison does not exist.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ ! -x benches/compare/run.sh ]; then
    echo "compare: benches/compare/run.sh does not exist yet; nothing was compared" >&2
    exit 1
fi
exec benches/compare/run.sh "$@"
