#!/bin/sh
# tests/architectures.yaml: weights as stored, modules of multi-token prediction left alone where their weight is 0, and equal
# weights through kill -9 in the middle of a stage that trains them.
set -eu
export OMP_WAIT_POLICY=passive
. tests/lib.sh
whole=$TEST_DIR/whole run=$TEST_DIR/killed
for isa in $(instruction_sets); do
    R1_ISA=$isa expect_exit 0 "$R1" run tests/architectures.yaml --threads 1 --quiet --out "$TEST_DIR/$isa"
    python3 tests/run_check.py weights "$TEST_DIR/$isa" architectures tests/weights.txt || complain "with R1_ISA=$isa"
done
expect_exit 0 "$R1" run tests/architectures.yaml --threads 1 --quiet --out "$whole"
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

# Positions extended by YaRN, in the checkpoint and in an export, and what is read at which depth.
"$R1" inspect "$whole/longer" --json >"$out"
for words in '"max_position_embeddings": 1024' '"factor": 4' '"original_max_position_embeddings": 256' '"mscale_all_dim": 1'; do
    grep -q "$words" "$out" || complain "the extended model has not $words"
done
expect_exit 0 "$R1" export "$whole/longer" --format hf -o "$TEST_DIR/longer"
tr -d ' \n' <"$TEST_DIR/longer/config.json" | grep -q '"rope_scaling":{"type":"yarn","factor":4' || complain "the export is not extended"
expect_exit 0 "$R1" eval "$whole/longer" --task needle --levels 1,5 --n 20 --k 2 --max-tokens 20
grep -q "<table class='needles'>.*20-40 %" "$whole/report.html" || complain "no grid of needles in the report"
grep -q "^     512  " "$out" || complain "no row of 512 digits"
expect_exit 1 "$R1" run tests/architectures.yaml --quiet --out "$TEST_DIR/twice" --set longer.from="$whole/longer"
expect_says "scaled already"

# Tokens are dropped, counted, and not in rl.
grep '"stage": "dropped"' "$whole/metrics.jsonl" | grep -q '"pairs_dropped": 0.0*[1-9]' || complain "no pair was dropped"
expect_exit 1 "$R1" run tests/architectures.yaml --quiet --out "$TEST_DIR/rl" --set rolled.drop.capacity=1
expect_says "drops tokens, which rl cannot"

expect_exit 0 "$R1" export "$whole/base" --format gguf -o "$TEST_DIR/base.gguf"
expect_says "2 modules of multi-token prediction; they stay behind"

# Bits per byte: a token a byte here, so nll / ln 2; a text longer than the positions is cut; other rows are refused.
printf '{"text": "12345678901234567890"}\n{"text": "(1+2)"}\n' >"$TEST_DIR/text.jsonl"
expect_exit 0 "$R1" eval "$whole/base" --text "$TEST_DIR/text.jsonl" --json
python3 -c "
import json, math, sys
o = json.load(open(sys.argv[1]))
assert o['bytes'] == o['tokens'] == 25 and o['texts'] == 2 and o['windows'] == 2, o
assert abs(o['bits_per_byte'] - o['nll'] / math.log(2)) < 1e-9, o" "$out"
printf '1é\n' >"$TEST_DIR/unknown"
expect_exit 0 "$R1" eval "$whole/base" --text "$TEST_DIR/unknown" --json
grep -q '"tokens": 3, "bytes": 4, "unknown": 1' "$out" || complain "$(cat "$out"): bytes are the text's, not those of <unk>"
for _ in 1 2 3 4 5 6 7 8 9; do printf 1234567890123456789012345678901234567890; done >"$TEST_DIR/text"
expect_exit 0 "$R1" eval "$whole/base" --text "$TEST_DIR/text" --json
grep -q '"windows": 2' "$out" || complain "a text of 360 tokens was not cut at 256 positions"
expect_error 1 "line 1 is no text" "$R1" eval "$whole/base" --text tests/asan.jsonl

long() { "$R1" run tests/architectures.yaml --threads 1 --quiet --set base.steps=500 --until taught --out "$@"; }
expect_exit 0 long "$whole-long"
"$R1" run tests/architectures.yaml --threads 1 --quiet --set base.steps=500 --until taught --checkpoint-seconds 0 --out "$run" \
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
