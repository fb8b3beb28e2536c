#!/bin/sh
# Runs every test, or with T=pattern those whose name holds it, from the root of the repository:
# the programs built from tests/unit/test_*.c, then tests/sh/*.sh. SUITES picks the kinds: "unit sh" unless given; "asan"
# is what `make test-asan` runs beside the units.
#
# A shell test finds the binary in $R1 and an empty folder of its own in $TEST_DIR; its exit code is the verdict, 77 is a
# skip whose reason is its last line. A unit test counts as many times as it has cases. The last line of the output is
# "N passed, N failed, N skipped"; the exit code is 0 when none failed and some passed.
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
R1=${R1:-r1}
case $R1 in /*) ;; *) R1=$PWD/$R1 ;; esac
case $BUILD in /*) ;; *) BUILD=$PWD/$BUILD ;; esac
export BUILD R1
limit=${TEST_LIMIT:-600} # seconds, so that a test that hangs fails by name
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
passed=0 failed=0 skipped=0

# run NAME COMMAND...: sets code and seconds; the output is in $scratch/log.
run() {
    shift
    TEST_DIR=$scratch/dir
    rm -rf "$TEST_DIR"
    mkdir "$TEST_DIR"
    export TEST_DIR
    start=$(date +%s%N)
    timeout "$limit" "$@" >"$scratch/log" 2>&1
    code=$?
    tenths=$((($(date +%s%N) - start) / 100000000))
    seconds=$((tenths / 10)).$((tenths % 10))
    [ "$code" = 124 ] && echo "stopped after $limit s" >>"$scratch/log"
}

report() { # VERDICT NAME NOTE
    printf '%-4s %-28s %6s s  %s\n' "$1" "$2" "$seconds" "$3"
}

unit() {
    run "$1" env CMOCKA_MESSAGE_OUTPUT=TAP "$BUILD/tests/$1"
    # A skipped case is "not ok N # SKIP name" in cmocka's TAP. A case that is planned but never told of died.
    counts=$(awk '
        /^1\.\.[0-9]+$/ { planned += substr($0, 4) }
        /^(not )?ok [0-9]+/ { if (/# SKIP/) skipped++; else if (/^ok/) passed++; else failed++ }
        END { missing = planned - passed - failed - skipped
              print passed + 0, failed + (missing > 0 ? missing : 0), skipped + 0 }' "$scratch/log")
    # shellcheck disable=SC2086
    set -- "$1" $counts
    ok=$2 bad=$3 skip=$4
    [ "$code" != 0 ] && [ "$bad" = 0 ] && bad=1
    [ "$ok" = 0 ] && [ "$skip" = 0 ] && [ "$bad" = 0 ] && bad=1
    passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
    if [ "$bad" != 0 ]; then
        report FAIL "$1" "$bad of $((ok + bad + skip)) failed, exit code $code"
        sed 's/^/    /' "$scratch/log"
    else
        report ok "$1" "$ok cases"
    fi
    sed -n 's/^not ok [0-9]* # SKIP /     skipped: /p' "$scratch/log"
}

shell() {
    run "$1" sh "$file"
    case $code in
    0) passed=$((passed + 1)) && report ok "$1" "" ;;
    77) skipped=$((skipped + 1)) && report skip "$1" "skipped: $(tail -n 1 "$scratch/log")" ;;
    *)
        failed=$((failed + 1))
        report FAIL "$1" "exit code $code"
        sed 's/^/    /' "$scratch/log"
        ;;
    esac
}

for kind in ${SUITES:-unit sh}; do
    case $kind in
    unit) files="tests/unit/test_*.c" runner=unit ;;
    sh) files="tests/sh/*.sh" runner=shell ;;
    asan) files="tests/sh/golden*.sh tests/asan.sh" runner=shell ;;
    *) echo "tests/run.sh: SUITES knows unit, sh and asan, not $kind" >&2 && exit 2 ;;
    esac
    for file in $files; do
        [ -e "$file" ] || continue
        test_name=$(basename "$file")
        test_name=${test_name%.*}
        case $test_name in *"${T:-}"*) $runner "$test_name" ;; esac
    done
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
