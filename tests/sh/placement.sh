#!/bin/sh
# A model folder larger than --memory gives the bytes of one in memory; what cannot be is refused with what would fit.
set -eu
. tests/lib.sh
model=$TEST_DIR/lite
input=/dev/null
python3 tests/peers/make_v2_lite.py "$model" --small --data 27 >"$out"
{
    echo '{"ids": [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4, 3, 3, 8, 3, 2, 7, 9, 5]}'
    echo '{"ids": [2, 7, 1, 8, 2, 8, 1, 8, 2, 8, 4, 5, 9, 0, 4, 5]}'
} >"$TEST_DIR/ids"
# The least is accepted with what the process has really allocated, too (same_placed fixes that).
gb=$("$R1" score "$model" --ids "$TEST_DIR/ids" --memory 0.001 2>&1 | sed -n 's/.*--memory \([0-9.]*\) is the least.*/\1/p')
expect_exit 0 "$R1" score "$model" --ids "$TEST_DIR/ids" --memory "$gb"
for precision in f32 bf16; do
    same_placed "$R1" score "$model" --ids "$TEST_DIR/ids" --precision $precision
    same_placed "$R1" generate "$model" --ids "$TEST_DIR/ids" --max-tokens 5 --temperature 0 --json --precision $precision
done
expect_error 1 openblas "$R1" score "$model" --ids "$TEST_DIR/ids" --memory 0.001 --matmul openblas
