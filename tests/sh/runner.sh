#!/bin/sh
# tests/run.sh counts what passed, failed and was skipped, and sees a test that fails, dies, hangs or says nothing.
set -eu
root=$TEST_DIR/root
mkdir -p "$root/tests/unit" "$root/tests/sh" "$root/build/tests"
cp tests/run.sh "$root/tests/run.sh"

program() { # NAME, script on stdin: stands for a built unit test
    touch "$root/tests/unit/$1.c"
    { echo '#!/bin/sh'; cat; } >"$root/build/tests/$1"
    chmod +x "$root/build/tests/$1"
}
program test_good <<'END'
printf '1..3\nok 1 - a\nok 2 - b\nnot ok 3 # SKIP c\n'
END
program test_bad <<'END'
printf '1..2\nok 1 - a\nnot ok 2 - b\n# 1 != 2\n'; exit 1
END
program test_dies <<'END'
printf '1..3\nok 1 - a\n'; kill -SEGV $$
END
program test_fails_late <<'END'
printf '1..1\nok 1 - a\n'; exit 3
END
program test_silent </dev/null
touch "$root/tests/unit/test_not_built.c"
echo 'test -x "$R1" || { echo "no binary"; exit 77; }' >"$root/tests/sh/skips.sh"
echo 'test -d "$TEST_DIR" && test -z "$(ls "$TEST_DIR")" && touch "$TEST_DIR/mess"' >"$root/tests/sh/clean_a.sh"
cp "$root/tests/sh/clean_a.sh" "$root/tests/sh/clean_b.sh"
echo 'echo why; exit 1' >"$root/tests/sh/fails.sh"
echo 'sleep 30' >"$root/tests/sh/hangs.sh"

check() { # EXPECTED LAST LINE, EXPECTED EXIT CODE, variables...
    want=$1 want_code=$2
    shift 2
    code=0
    env -u SUITES -u T BUILD=build R1=r1 TEST_LIMIT=1 "$@" sh "$root/tests/run.sh" >"$TEST_DIR/log" || code=$?
    if [ "$(tail -n 1 "$TEST_DIR/log")" != "$want" ] || [ "$code" != "$want_code" ]; then
        echo "wanted exit code $want_code and: $want"
        echo "got $code and:"
        cat "$TEST_DIR/log"
        exit 1
    fi
}
check "2 passed, 0 failed, 1 skipped" 0 T=test_good
check "1 passed, 1 failed, 0 skipped" 1 T=test_bad
check "1 passed, 2 failed, 0 skipped" 1 T=test_dies
check "1 passed, 1 failed, 0 skipped" 1 T=test_fails_late
check "0 passed, 1 failed, 0 skipped" 1 T=test_silent
check "0 passed, 1 failed, 0 skipped" 1 T=test_not_built
check "0 passed, 0 failed, 1 skipped" 1 T=skips
grep -q 'skipped: no binary' "$TEST_DIR/log"
check "2 passed, 0 failed, 0 skipped" 0 T=clean_
check "0 passed, 1 failed, 0 skipped" 1 T=fails SUITES=sh
grep -q why "$TEST_DIR/log"
check "0 passed, 1 failed, 0 skipped" 1 T=hangs
check "0 passed, 0 failed, 0 skipped" 1 T=nothing_of_this_name
check "7 passed, 8 failed, 2 skipped" 1
