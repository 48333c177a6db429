#!/usr/bin/env bash
# Mutated updates by the million against the real engine, in child processes: ./hostile.sh [updates, 4000000] [first seed, 0]
#
# Prints what became of them. Each sequence that ends a child is made smaller, kept in artifacts/hostile, and sent to a real
# server, which may die of it once and must not die of it again. Fails when it does, when our own code breaks, or when a
# child grows beyond its bound.
set -euo pipefail
cd "$(dirname "$0")/.."

export SYNCLINE_HOSTILE_UPDATES=${1:-4000000}
export SYNCLINE_HOSTILE_SEED=${2:-0}
exec cargo test --release --test hostile -- --nocapture mutated_updates
