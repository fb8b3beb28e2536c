#!/bin/sh
# Rows whose answers are programs: a model that learned one by heart practises it in RL, the tests of every sample run in a sandbox;
# without bubblewrap nothing runs.
set -eu
export OMP_WAIT_POLICY=passive
. tests/lib.sh
dir=$TEST_DIR

cat >"$dir/programs.jsonl" <<'END_OF_FILE'
{"prompt": "double", "verifier": "tests", "tests": [{"stdin": "2", "stdout": "4"}], "answer": "print(2*int(input()))", "trace": "2"}
{"prompt": "cube", "verifier": "tests", "test_list": ["assert cube(2) == 8"], "answer": "cube=lambda x:x*x", "trace": "3"}
END_OF_FILE
cat >"$dir/code.yaml" <<END_OF_FILE
model: {architecture: llama, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1, head_dim: 16,
        intermediate_size: 64, max_position_embeddings: 128}
tasks:
  - {file: $dir/programs.jsonl, heldout: 0}
rewards: {accuracy: 1}
eval: {n: 2, k: 2, temperature: 0, max_tokens: 40, general_n: 0}
stages:
  - {name: base, kind: pretrain, steps: 120, batch: 8, lr: 1e-2, warmup: 5}
  - {name: zero, kind: rl, from: base, steps: 1, prompts: 2, group: 2, max_tokens: 40, temperature: 0.1, lr: 1e-3}
END_OF_FILE

# One sentence where there is no bubblewrap, before anything is trained.
mkdir "$dir/bin"
expect_exit 1 env PATH="$dir/bin" "$R1" run "$dir/code.yaml" --quiet --out "$dir/none"
expect_says "run in a sandbox only"
expect_error 1 "run in a sandbox only" env PATH="$dir/bin" "$R1" data "$dir/programs.jsonl" --verify
expect_exit 0 env PATH="$dir/bin" "$R1" data "$dir/programs.jsonl"

if ! "$R1" data "$dir/programs.jsonl" --verify >/dev/null 2>"$said"; then
    cat "$said"
    exit 77
fi
expect_exit 0 "$R1" data "$dir/programs.jsonl" --verify --n 2
expect_prints 'test 1: '
expect_exit 0 "$R1" run "$dir/code.yaml" --quiet --threads 1 --out "$dir/run"
python3 - "$dir/run/metrics.jsonl" <<'END_OF_FILE'
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
steps = [line for line in lines if line["stage"] == "zero" and "reasons" in line]
evals = [line["eval"]["all"] for line in lines if line["stage"] == "zero" and "eval" in line]
assert steps[0]["reasons"] == {"correct": 2, "test failed": 2}, steps
assert steps[0]["reward_parts"] == {"accuracy": 0.5}, steps
assert evals[-1]["reasons"] == {"correct": 2, "test failed": 2} and evals[-1]["cons@2"] == 0.5, evals
END_OF_FILE
expect_exit 0 "$R1" eval "$dir/run/zero" --n 2 --k 1 --temperature 0 --dump "$dir/dump.jsonl"
expect 2 "$(grep -c '"tests": \[{"reason": "' "$dir/dump.jsonl")"

# The verdicts of a repeated run are the same, and so are its weights.
expect_exit 0 "$R1" run "$dir/code.yaml" --quiet --threads 2 --out "$dir/twice"
python3 tests/run_check.py same "$dir/run" "$dir/twice"

# Sandboxes end with whoever started them, also when it is killed.
mark=R1_TEST_MARK=$$
printf '{"prompt": "wait", "verifier": "tests", "tests": [{"stdout": ""}], "seconds": 60, "interpreter": "env %s python3", "answer": "%s"}\n' \
    "$mark" 'import time; time.sleep(100)' >"$dir/wait.jsonl"
"$R1" data "$dir/wait.jsonl" --n 1 --verify >"$out" 2>&1 &
running=$!
alive() { # whether a process of the sandbox is there; the pattern does not match itself
    grep -qsa "R1_TEST_MAR[K]=$$" /proc/[0-9]*/cmdline
}
patience() { # up to ten seconds
    tries=$((tries + 1))
    [ $tries -lt 100 ] || complain "$1"
    sleep 0.1
}
tries=0
until alive; do patience "no sandbox was started"; done
kill -9 $running
tries=0
while alive; do patience "a sandbox outlives what started it"; done
