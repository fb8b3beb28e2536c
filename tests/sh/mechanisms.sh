#!/bin/sh
# tests/mechanisms.yaml: the weights it ends in are the stored ones on every instruction set and with another number of threads, and a
# run that was killed in the middle of its stages and resumed ends in the same.
set -eu
export OMP_WAIT_POLICY=passive
. tests/lib.sh
recipe=tests/mechanisms.yaml
for isa in $(instruction_sets); do
    R1_ISA=$isa expect_exit 0 "$R1" run $recipe --quiet --out "$TEST_DIR/$isa"
    python3 tests/run_check.py weights "$TEST_DIR/$isa" mechanisms tests/weights.txt || { echo "with R1_ISA=$isa"; exit 1; }
    python3 tests/run_check.py numbers "$TEST_DIR/$isa" mechanisms tests/numbers.txt ${STORE:+store} || { echo "with R1_ISA=$isa"; exit 1; }
    last=$TEST_DIR/$isa
done
python3 tests/run_check.py metrics "$last" 1e-3

# STAGE STEP, pair by pair: killed soon after each of these lines, then resumed.
run=$TEST_DIR/killed
set -- preferred 2 preferred_file 2 own 2 critic 2 penalty 1 replayed 1
while [ $# -gt 0 ]; do
    line="\"stage\": \"$1\", \"step\": $2,"
    "$R1" run $recipe --threads 1 --checkpoint-seconds 0 --quiet --out "$run" >"$out" 2>"$said" &
    child=$!
    until grep -qs "$line" "$run/metrics.jsonl"; do
        kill -0 $child 2>/dev/null || complain "the run ended before $line"
        sleep 0.005
    done
    kill -KILL $child 2>/dev/null || complain "the run ended soon after $line"
    wait $child || true
    shift 2
done
expect_exit 0 "$R1" run $recipe --threads 1 --quiet --out "$run"
python3 tests/run_check.py same "$run" "$last"
