#!/bin/sh
# A model folder larger than --memory gives the bytes of one in memory; what cannot be is refused with what would fit.
set -u
R1=${R1:-./r1}
bad=0
model=$TEST_DIR/lite
python3 tests/peers/make_v2_lite.py "$model" --small --data 27 >/dev/null || exit 1
{
    echo '{"ids": [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4, 3, 3, 8, 3, 2, 7, 9, 5]}'
    echo '{"ids": [2, 7, 1, 8, 2, 8, 1, 8, 2, 8, 4, 5, 9, 0, 4, 5]}'
} >"$TEST_DIR/ids"
wrong() {
    echo "$1"
    bad=1
}
# The least memory that works, as the refusal says.
least() {
    "$R1" "$@" --memory 0.001 2>&1 >/dev/null | sed -n 's/.*--memory \([0-9.]*\) is the least.*/\1/p'
}
for precision in f32 bf16; do
    for command in "score --ids $TEST_DIR/ids" "generate --ids $TEST_DIR/ids --max-tokens 5 --temperature 0 --json"; do
        set -- $command
        name=$1
        shift
        "$R1" "$name" "$model" "$@" --precision $precision --memory 4 >"$TEST_DIR/all" || wrong "$name in memory failed"
        # What the process takes itself is counted in steps of 32 MB, so that near one of them two calls may differ.
        for try in 1 2 3 4 5; do
            gb=$(least "$name" "$model" "$@" --precision $precision)
            [ -n "$gb" ] || wrong "$name --memory 0.001 does not say what would fit"
            placed=0
            R1_STRICT=1 R1_RING=2 "$R1" "$name" "$model" "$@" --precision $precision --memory "$gb" >"$TEST_DIR/some" \
                2>"$TEST_DIR/said" || placed=$?
            grep -q 'is the least' "$TEST_DIR/said" || break
        done
        [ $placed = 0 ] || wrong "$name $precision --memory $gb, $try tries: $(tail -1 "$TEST_DIR/said")"
        grep -q 'stay on disk' "$TEST_DIR/said" || wrong "$name --memory $gb: nothing stayed on disk: $(cat "$TEST_DIR/said")"
        cmp -s "$TEST_DIR/all" "$TEST_DIR/some" || wrong "$name $precision: other bytes from disk than from memory"
    done
done
"$R1" score "$model" --ids "$TEST_DIR/ids" --memory 0.001 --matmul openblas 2>&1 | grep -qE 'openblas' || wrong "--matmul openblas says nothing"
exit $bad
