#!/bin/sh
# tests/architectures.yaml: weights as stored, modules of multi-token prediction left alone where their weight is 0, and equal
# weights through kill -9 in the middle of a stage that trains them.
set -eu
export OMP_WAIT_POLICY=passive
. tests/lib.sh
whole=$TEST_DIR/whole run=$TEST_DIR/killed
expect_exit 0 "$R1" run tests/architectures.yaml --threads 1 --quiet --out "$whole"
python3 tests/run_check.py weights "$whole" architectures tests/weights.txt
python3 tests/run_check.py files "$whole"
grep -q '"mtp_loss": \[[0-9.]*, [0-9.]*\]' "$whole/metrics.jsonl" || complain "no loss of multi-token prediction in the metrics"

# A module's weights by stage: the same where it was not trained.
module() { python3 tests/run_check.py tensor "$whole" "$1" model.layers.3.eh_proj.weight; }
[ "$(module base)" = "$(module left)" ] || complain "a stage with mtp.weight 0 changed a module"
[ "$(module taught)" = "$(module rolled)" ] || complain "rl changed a module"
[ "$(module base)" != "$(module taught)" ] || complain "sft left a module as it was"

# Guesses of the module change neither samples nor weights.
expect_exit 0 "$R1" run tests/architectures.yaml --threads 1 --quiet --until rolled --set rolled.draft=3 --out "$TEST_DIR/drafted"
grep -q '"draft_accepted": 0*[.1-9]' "$TEST_DIR/drafted/metrics.jsonl" || complain "no share of accepted guesses"
for stage in rolled taught; do
    expect "$("$R1" inspect "$whole/$stage" --sha256 | grep sha256)" "$("$R1" inspect "$TEST_DIR/drafted/$stage" --sha256 | grep sha256)"
done
plain=$("$R1" generate "$whole/base" --prompt 1+1 --max-tokens 30 --seed 4)
expect "$plain" "$("$R1" generate "$whole/base" --prompt 1+1 --max-tokens 30 --seed 4 --draft 2 2>"$said")"
expect_says "guesses [0-9]* were right"
expect_exit 1 "$R1" generate "$whole/few_wide" --prompt 1+1 --draft 1
expect_says num_nextn_predict_layers

long() { "$R1" run tests/architectures.yaml --threads 1 --quiet --set base.steps=1500 --until taught --out "$@"; }
expect_exit 0 long "$whole-long"
"$R1" run tests/architectures.yaml --threads 1 --quiet --set base.steps=1500 --until taught --checkpoint-seconds 0 --out "$run" \
    >"$out" 2>"$said" &
child=$!
until grep -qs '"stage": "base", "step": 100,' "$run/metrics.jsonl"; do
    kill -0 $child 2>/dev/null || complain "the run ended before step 100"
    sleep 0.01
done
kill -KILL $child
wait $child || true
[ -n "$(find "$run" -name "base.partial.h5")" ] || complain "no checkpoint to resume"
expect_exit 0 long "$run"
python3 tests/run_check.py same "$run" "$whole-long"
