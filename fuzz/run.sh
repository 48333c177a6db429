#!/usr/bin/env bash
# Builds and runs the fuzz targets on whatever toolchain is there: ./run.sh [seconds each, 10] [target…, all]
# ./run.sh --build [target…, all] only builds them.
#
# Needs g++ (for libFuzzer) and nothing installed by cargo: coverage instrumentation is asked for with the flags that
# `cargo fuzz` would pass, of which stable Rust takes all but the sanitizers'. Inputs that were found interesting stay in
# corpus/, findings in artifacts/; both are laid out as for `cargo fuzz run NAME`. Fails when a target found something.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:-10}
shift || true
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  mapfile -t targets < <(sed -n 's|^path = "targets/\(.*\)\.rs"|\1|p' Cargo.toml)
fi

host=$(rustc -vV | sed -n 's/^host: //p')
export CXX=${CXX:-g++}
export CARGO_TARGET_DIR=$PWD/target
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing"

# A target that needs more than the protocol says so with required-features.
features_of() {
  awk -v RS='' -v path="targets/$1.rs" 'index($0, path) && /required-features/' Cargo.toml |
    sed -n 's/^required-features = \[\(.*\)\]/\1/p' | tr -d '" '
}

failed=()
for target in "${targets[@]}"; do
  echo "== $target, $seconds s"
  cargo build --quiet --release --target "$host" --bin "$target" --features "$(features_of "$target")"
  [ "$seconds" != --build ] || continue
  mkdir -p "corpus/$target" "artifacts/$target" "seeds/$target"
  binary=target/$host/release/$target
  if ! "$binary" "corpus/$target" "seeds/$target" -artifact_prefix="artifacts/$target/" -max_total_time="$seconds" \
    -max_len=65536 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1; then
    failed+=("$target")
    newest=$(ls -t "artifacts/$target" | head -1)
    echo "!! $target found something. Replay: fuzz/$binary fuzz/artifacts/$target/$newest" >&2
  fi
done
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}" >&2; exit 1; }
