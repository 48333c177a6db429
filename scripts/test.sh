#!/usr/bin/env bash
# Everything that must hold before a change goes in. Stops at the first failure and names the step.
set -euo pipefail
cd "$(dirname "$0")/.."

current="start"
steps=()
began=$SECONDS
trap 'status=$?; [ $status = 0 ] || { printf "\nFAILED in: %s\n" "$current" >&2; exit $status; }' EXIT

step() {
    current=$1
    shift
    local at=$SECONDS
    printf '\n== %s\n' "$current"
    "$@"
    steps+=("$(printf '%4d s  %s' $((SECONDS - at)) "$current")")
}

step "tools and npm packages" bash scripts/setup.sh
step "page bundle" make --no-print-directory -s web
step "licences, bans, sources" bash scripts/deny.sh
step "format" cargo fmt --all --check
step "Rust tests, architecture, conformance, crash, simulator" cargo nextest run --workspace
step "doc tests" cargo test --quiet --workspace --doc
# The tests have built it already. Only these are told: to a server it would be a setting that it does not know.
built="SYNCLINE_BIN=${CARGO_TARGET_DIR:-$PWD/target}/debug/syncline"
step "interop with the npm clients" env "$built" bash scripts/interop.sh
step "several nodes, Redis and PostgreSQL" env "$built" bash scripts/cluster.sh --try
step "two browsers" env "$built" bash scripts/browser.sh
step "benchmarks, once each" bash scripts/bench.sh --try
step "table benchmarks, once" bash scripts/bench-tables.sh --try
# What compiles everything once more takes as long as all of this: `make check` has clippy, `make counts` and `make fuzz` the
# rest.

printf '\n== passed\n'
printf '%s\n' "${steps[@]}"
printf '%4d s  in all\n' $((SECONDS - began))
