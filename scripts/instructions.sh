#!/usr/bin/env bash
# Instructions per operation of each hot path, counted by valgrind: the same on a busy machine as on a quiet one.
#
#   scripts/instructions.sh [--check]     compares with benches/instructions/counts.txt; fails when a path became dearer
#   scripts/instructions.sh --build       only builds what is counted
#   scripts/instructions.sh --update      writes that file anew
#   scripts/instructions.sh --show NAME [LINES]   which functions take the instructions of one path, with what they call
#
# What is run stands in benches/instructions/. The counts depend on the compiler, on libc, and on what the processor
# offers to libraries that choose their code by it. All of it stands in the file's head: with other tools the comparison
# is printed and fails nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

# Five runs of one build differ by 0.2 % at most (hash seeds, time stamps). The rest is for the compiler, which now and then
# inlines otherwise because something unrelated changed.
tolerance_percent=5
counts=benches/instructions/counts.txt

command -v valgrind >/dev/null || { echo "instructions: valgrind is missing: scripts/setup.sh installs it" >&2; exit 1; }
cargo build --quiet --release -p syncline-instructions
built=${CARGO_TARGET_DIR:-$PWD/target}/release/syncline-instructions

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export work

# Arguments and environment stand on the stack, so they are the same for everybody.
counted() {
    cd "$work"
    env -i PATH=/usr/bin:/bin valgrind --tool=callgrind --toggle-collect='syncline_instructions::counted_rounds*' \
        --callgrind-out-file="${1//\//:}.out" --log-file="${1//\//:}.log" ./paths.bin "$1"
}
export -f counted

tools() {
    local flags=baseline
    grep -qw avx2 /proc/cpuinfo && flags=avx2
    printf '%s; %s; %s; %s %s\n' "$(rustc --version)" "$(valgrind --version)" "$(getconf GNU_LIBC_VERSION || echo libc)" \
        "$(uname -m)" "$flags"
}

measure() {
    # valgrind reads all debug information first, which takes longer than to count. It needs the symbols only.
    strip -g -o "$work/paths.bin" "$built"
    "$built" >"$work/paths"
    cut -d' ' -f1 "$work/paths" | xargs -P "$(nproc)" -n 1 bash -c 'counted "$0"'
    local name rounds instructions
    while read -r name rounds; do
        instructions=$(sed -n 's/^==[0-9]*== Collected : //p' "$work/${name//\//:}.log")
        if [ "${instructions:-0}" = 0 ]; then
            echo "instructions: $name was not counted:" >&2
            cat "$work/${name//\//:}.log" >&2
            exit 1
        fi
        echo "$name $(((instructions + rounds / 2) / rounds))"
    done <"$work/paths"
}

update() {
    measure >"$work/measured"
    {
        echo "# Instructions per operation, written by scripts/instructions.sh --update and compared by make counts."
        echo "# What each path does stands in benches/instructions/. Tolerance: $tolerance_percent %."
        echo "# tools: $(tools)"
        awk '{ printf "%-32s %10d\n", $1, $2 }' "$work/measured"
    } >"$work/counts"
    cp "$work/counts" "$counts"
    cat "$counts"
}

# Prints every path; ends with 1 when one became dearer, with 2 when the file does not list the paths there are.
compare() {
    awk -v tolerance="$tolerance_percent" '
        /^#/ { next }
        FNR == NR { kept[$1] = $2; next }
        {
            if (!($1 in kept)) { printf "%-32s %10d  is not in the file\n", $1, $2; wrong = 2; next }
            change = ($2 - kept[$1]) * 100 / kept[$1]
            verdict = ""
            if (change > tolerance) { verdict = "  DEARER"; dearer = 1 }
            if (change < -tolerance) { verdict = "  cheaper"; cheaper = 1 }
            printf "%-32s %10d %+8.2f %%%s\n", $1, $2, change, verdict
            delete kept[$1]
        }
        END {
            for (name in kept) { printf "%-32s is in the file and is no path\n", name; wrong = 2 }
            if (cheaper || dearer || wrong) print "instructions: where that is meant, scripts/instructions.sh --update, and commit the file"
            exit wrong ? wrong : dearer
        }' "$counts" "$1"
}

check() {
    local kept now
    kept=$(sed -n 's/^# tools: //p' "$counts")
    now=$(tools)
    measure >"$work/measured"
    local verdict=0
    compare "$work/measured" || verdict=$?
    case $verdict in
    0) ;;
    1)
        if [ "$kept" != "$now" ]; then
            printf 'instructions: NOT failing, because the file was made with other tools\n  file: %s\n  here: %s\n' \
                "$kept" "$now" >&2
            return 0
        fi
        echo "instructions: more than $tolerance_percent % above $counts; --show NAME says where the instructions go" >&2
        return 1
        ;;
    *)
        echo "instructions: $counts does not list the paths that there are" >&2
        return 1
        ;;
    esac
}

show() {
    "$built" | grep "^$1 " >/dev/null || { echo "instructions: no path $1; there are:" >&2; "$built" >&2; exit 2; }
    cp "$built" "$work/paths.bin"
    counted "$1"
    # The outermost frames hold everything; of the others, the path of the source only says where cargo keeps it.
    callgrind_annotate --inclusive=yes "$work/${1//\//:}.out" | grep -E '^ *[0-9,]+ \(' | grep -v '(100' |
        sed -E 's| [^ ]*/([^/ ]+:)| \1|; s| \[[^]]*\]$||' | sed -n "1,${2}p"
}

case ${1:---check} in
--build) ;; # That is done already.
--check) check ;;
--update) update ;;
--show) show "${2:?the name of a path}" "${3:-40}" ;;
*) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
