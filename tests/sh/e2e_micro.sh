#!/bin/sh
# The micro recipe, every stage: the same weights whatever the threads and chunks, and a run folder with everything in it.
set -eu
export OMP_WAIT_POLICY=passive # spinning threads stand still on a machine that others load
"$R1" run micro --out "$TEST_DIR/one" --threads 1 --quiet >"$TEST_DIR/table"
"$R1" run micro --out "$TEST_DIR/two" --threads 2 --chunk 1024 --quiet >"$TEST_DIR/table2"
for check in files summary metrics evals; do python3 tests/run_check.py $check "$TEST_DIR/one"; done
python3 tests/run_check.py same "$TEST_DIR/one" "$TEST_DIR/two"

# The table names every model that was evaluated, and the report every stage.
for stage in base zero cold_start rl_reason reject_sft rl_all student_base distill distill.rival1; do
    grep -q "^$stage " "$TEST_DIR/table" || { echo "the table has no $stage"; cat "$TEST_DIR/table"; exit 1; }
    grep -q "$stage" "$TEST_DIR/one/report.html" || { echo "the report has no $stage"; exit 1; }
done
! grep -qE '(src|href)="?(https?:)?//' "$TEST_DIR/one/report.html" || { echo "the report needs a network"; exit 1; }

# A finished run is left as it is.
"$R1" run micro --out "$TEST_DIR/one" --threads 1 --quiet >/dev/null
python3 tests/run_check.py same "$TEST_DIR/one" "$TEST_DIR/two"
