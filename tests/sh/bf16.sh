#!/bin/sh
# bf16 from the command line: the micro recipe's weights whatever the threads and chunks, and after a kill; the sampler agrees
# with the trainer exactly; another precision is another recipe; the commands that take --precision, and what they refuse.
set -eu
export OMP_WAIT_POLICY=passive
. tests/lib.sh

short="--quiet --set precision=bf16"

# shellcheck disable=SC2086
"$R1" run micro --out "$TEST_DIR/one" $short --threads 1 >"$TEST_DIR/table" 2>"$said" || complain "the run failed"
for check in files summary metrics; do python3 tests/run_check.py $check "$TEST_DIR/one"; done
grep -q '"gap": 0.0' "$TEST_DIR/one/metrics.jsonl" || complain "no gap was measured"
grep -q '^precision: bf16' "$TEST_DIR/one/recipe.yaml" || complain "the recipe does not say bf16"

# Two threads, small chunks, killed in pre-training and in RL with its reference, and resumed.
stop() { # STAGE STEP
    # shellcheck disable=SC2086
    "$R1" run micro --out "$TEST_DIR/two" $short --threads 2 --chunk 1024 --checkpoint-seconds 0 >"$out" 2>"$said" &
    child=$!
    until grep -qs "\"stage\": \"$1\", \"step\": $2," "$TEST_DIR/two/metrics.jsonl"; do
        kill -0 $child 2>/dev/null || complain "the run ended before $1, step $2"
        sleep 0.01
    done
    kill -KILL $child 2>/dev/null || complain "the run ended soon after $1, step $2"
    wait $child || true
    [ -n "$(find "$TEST_DIR/two" -name "$1.partial.h5")" ] || complain "no checkpoint of $1 to resume"
}
stop base 15
stop rl_reason 3
# shellcheck disable=SC2086
"$R1" run micro --out "$TEST_DIR/two" $short --threads 2 --chunk 1024 >"$out" 2>"$said" || complain "no resume"
python3 tests/run_check.py same "$TEST_DIR/one" "$TEST_DIR/two"

# Another precision is another recipe, by the flag as by the key; and f32 gives other weights.
expect_exit 1 "$R1" run micro --quiet --out "$TEST_DIR/one" --threads 1
expect_says "precision is f32 here and bf16 there"
expect_exit 1 "$R1" run micro --quiet --out "$TEST_DIR/one" --threads 1 --precision f32
expect_says "precision is f32 here and bf16 there"
"$R1" run micro --quiet --out "$TEST_DIR/f32" --until base --threads 1 --set base.steps=4 >/dev/null
expect_exit 1 "$R1" run micro --quiet --out "$TEST_DIR/f32" --until base --threads 1 --set base.steps=4 --precision bf16
expect_says "precision is bf16 here and f32 there"

# A checkpoint is computed with in the precision of its run, unless told otherwise.
echo '{"ids": [1, 5, 9, 3, 7]}' >"$TEST_DIR/own.jsonl"
own() { model=$1; shift; "$R1" score "$model" --ids "$TEST_DIR/own.jsonl" --threads 1 "$@"; }
[ "$(own "$TEST_DIR/one/zero")" = "$(own "$TEST_DIR/one/zero" --precision bf16)" ] || complain "not in bf16, as it was trained"
[ "$(own "$TEST_DIR/one/zero")" != "$(own "$TEST_DIR/one/zero" --precision f32)" ] || complain "--precision f32 did not win"
[ "$(own tests/golden/v2_lite)" = "$(own tests/golden/v2_lite --precision f32)" ] || complain "a folder is not in f32"

# Commands that compute with a model take --precision; numbers differ from f32's, and not by much.
echo '{"ids": [3, 1, 4, 1, 5, 9, 2, 6]}' >"$TEST_DIR/ids.jsonl"
for model in tests/golden/v2_lite tests/golden/qwen3 "$TEST_DIR/one/zero"; do
    for precision in f32 bf16; do
        "$R1" score "$model" --ids "$TEST_DIR/ids.jsonl" --precision $precision --threads 1 >"$TEST_DIR/$precision.jsonl"
    done
    python3 - "$TEST_DIR" <<'END'
import json, sys
f32, bf16 = ([json.loads(line) for line in open(f"{sys.argv[1]}/{p}.jsonl")] for p in ("f32", "bf16"))
gaps = [abs(a - b) for a, b in zip(f32[0]["logprobs"], bf16[0]["logprobs"])]
assert len(gaps) == 7 and 0 < max(gaps) < 0.3, gaps
END
done
for cache in exact latent; do
    expect_exit 0 "$R1" generate tests/golden/v2_lite --ids "$TEST_DIR/ids.jsonl" --max-tokens 9 --cache $cache --json \
        --precision bf16 --threads 1
    expect_prints '"ids": \[[0-9]*\(, [0-9]*\)\{8\}\]'
done
expect_exit 0 "$R1" eval "$TEST_DIR/one/zero" --n 4 --k 2 --max-tokens 20 --precision bf16 --threads 1
expect_prints pass@1

# A plan: of a recipe by the flag as by its key, and less memory than in f32.
for precision in f32 bf16; do
    expect_exit 0 "$R1" plan tests/golden/v2_lite --precision $precision --threads 1
    cp "$out" "$TEST_DIR/plan.$precision"
done
! cmp -s "$TEST_DIR/plan.f32" "$TEST_DIR/plan.bf16" || complain "the plan of bf16 is that of f32"
expect_exit 0 "$R1" plan micro --precision bf16

# What is neither.
expect_exit 2 "$R1" score tests/golden/v2_lite --ids "$TEST_DIR/ids.jsonl" --precision fp16
expect_says "--precision fp16: expected f32 or bf16"
expect_exit 2 "$R1" plan micro --precision
[ "$(wc -l <"$said")" = 1 ]
expect_exit 1 "$R1" run micro --out "$TEST_DIR/wrong" --set precision=float16
expect_says "precision"
expect_says "bf16"
[ "$(wc -l <"$said")" = 1 ]
