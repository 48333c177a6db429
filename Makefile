# What a person types. Each target says what it needs and fails when it cannot do its work.
#
#   make run      the page, a release server, `--dev` on http://127.0.0.1:8080, data in ./data
#   make test     everything that must hold before a change goes in (under 25 minutes on two cores)
#   make check    the quick part: format, lints, architecture, unit tests
#   make fuzz     every fuzz target for FUZZ_SECONDS each, then HOSTILE_UPDATES mutated updates against the engine
#   make sim      the simulator over SIM_SEEDS seeds: of one node, and of several
#   make cluster  nodes, Redis and PostgreSQL as processes: CLUSTER_SEEDS times everything fails once in CLUSTER_SECONDS (half an hour)
#   make bench    the criterion benchmarks
#   make bench-store  the store beside a bare append, sled, redb and fjall (six minutes); writes docs/benchmarks/store.md
#   make bench-tables  one cell edit, memory, requests, events and imports of a large table; writes docs/benchmarks/tables.md
#   make bench-rooms  rooms beside the npm server of Socket.IO, and a flood of connections; writes docs/benchmarks/rooms.md
#   make bench-cluster  latency between nodes, three nodes against one, 90 000 connections at rest on six; writes docs/benchmarks/cluster.md
#   make counts   instructions of the hot paths against benches/instructions/counts.txt; needs valgrind
#   make compare  the same work on the servers people would otherwise pick
#
# cargo-deny: bans, licences and sources are checked in `make test`. Advisories need the RustSec database, which is
# fetched from a git host; where that cannot be reached scripts/deny.sh says "advisories NOT checked" and goes on.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

FUZZ_SECONDS ?= 600
HOSTILE_UPDATES ?= 4000000
SIM_SEEDS ?= 100000
CHROMIUM ?= /usr/bin/chromium
export CHROMIUM

# cargo-installed tools are found even where the shell's profile does not say so.
export PATH := $(HOME)/.cargo/bin:$(PATH)

.PHONY: help run web setup check test tidy unit interop cluster browser fuzz sim bench bench-store bench-tables bench-rooms bench-cluster counts compare deny clean

help:
	@sed -n 's/^#   //p' Makefile

web: web/dist/main.js

web/node_modules/.installed: web/package-lock.json
	npm ci --prefix web --no-progress --loglevel error
	touch $@

web/dist/main.js: web/node_modules/.installed web/build.mjs web/index.html web/style.css $(wildcard web/src/*.js)
	npm run --silent build --prefix web

run: web
	cargo run --release -- serve --dev --listen 127.0.0.1:8080 --data-dir ./data

setup:
	bash scripts/setup.sh

check: web
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --quiet --test tidy
	cargo test --quiet --workspace --lib

test:
	bash scripts/test.sh

interop: web
	bash scripts/interop.sh

cluster: web
	bash scripts/cluster.sh

browser: web
	bash scripts/browser.sh

deny:
	bash scripts/deny.sh

fuzz:
	bash fuzz/run.sh $(FUZZ_SECONDS)
	bash fuzz/hostile.sh $(HOSTILE_UPDATES)

sim:
	SYNCLINE_SIM_SEEDS=$(SIM_SEEDS) cargo test --release --test sim -- --nocapture

bench:
	bash scripts/bench.sh

bench-store:
	bash scripts/bench-store.sh

bench-tables:
	bash scripts/bench-tables.sh

bench-rooms:
	bash scripts/bench-rooms.sh

bench-cluster:
	bash scripts/bench-cluster.sh

counts:
	bash scripts/instructions.sh --check

compare:
	bash scripts/compare.sh

# Leaves ./data alone: it is somebody's work.
clean:
	cargo clean
	rm -rf web/dist web/node_modules tests/interop/node_modules tests/browser/node_modules benches/rooms/node_modules fuzz/target
