#!/bin/sh
# `train:`: what no name means stays as it was, in pretraining, GRPO and reward models; a run killed with -9 ends in the weights
# of one never stopped; `all` is the default; names without a tensor are refused.
set -eu
export OMP_WAIT_POLICY=passive
. tests/lib.sh
cat >"$TEST_DIR/part.yaml" <<'END'
extends: micro
train: [embed_tokens, "layers.1.*.[qo]_proj", lm_head]
END
small="--set base.steps=30 --set base.eval_every=0 --set zero.steps=3 --set zero.eval_every=0 --set eval.n=2 --set eval.k=1"
# shellcheck disable=SC2086
run() { "$R1" run "$TEST_DIR/part.yaml" --threads 1 --until zero $small --out "$@"; }
hash() { python3 -c 'import json, sys; [print(s["name"], s["weights_sha256"]) for s in json.load(open(sys.argv[1] + "/summary.json"))["stages"]]' "$1"; }

run "$TEST_DIR/whole" >"$out" 2>"$said"
expect_says "base: trains [0-9]* of [0-9]* parameters; backward visits 2 of 2 layers"
expect_says "zero: trains [0-9]* of"

# Killed in the middle of either stage.
for at in '"base", "step": 12,' '"zero", "step": 1,'; do
    # shellcheck disable=SC2086
    "$R1" run "$TEST_DIR/part.yaml" --threads 1 --until zero $small --out "$TEST_DIR/killed" --checkpoint-seconds 0 --quiet >"$out" 2>"$said" &
    child=$!
    until grep -qs "$at" "$TEST_DIR/killed/metrics.jsonl"; do
        kill -0 $child 2>/dev/null || complain "the run ended before $at"
        sleep 0.01
    done
    kill -KILL $child
    wait $child || true
done
run "$TEST_DIR/killed" --quiet >"$out" 2>"$said"
hash "$TEST_DIR/whole" >"$TEST_DIR/a"
hash "$TEST_DIR/killed" >"$TEST_DIR/b"
[ -s "$TEST_DIR/a" ] && cmp "$TEST_DIR/a" "$TEST_DIR/b" || complain "other weights after kill -9"

# Weights that a stage did not train are those it began with.
cat >"$TEST_DIR/frozen.py" <<'END'
import sys
sys.path.insert(0, "tests")
from run_check import import_h5py
h5py = import_h5py()
before, after, trained = h5py.File(sys.argv[1], "r")["model"], h5py.File(sys.argv[2], "r")["model"], sys.argv[3:]
for name in after:
    same = name in before and (before[name][()] == after[name][()]).all()
    if name in before and same == any(t in name for t in trained):
        sys.exit(f"{name} {'stayed' if same else 'moved'}")
END
checkpoints=$TEST_DIR/whole/checkpoints
python3 "$TEST_DIR/frozen.py" "$checkpoints/base.h5" "$checkpoints/zero.h5" embed_tokens layers.1.self_attn.q_proj layers.1.self_attn.o_proj lm_head

expect_exit 0 "$R1" run micro --set 'train=[all]' --resolved
cp "$out" "$TEST_DIR/all"
expect_exit 0 "$R1" run micro --resolved
cmp -s "$out" "$TEST_DIR/all" || complain "all is not the default"
expect_exit 1 "$R1" run micro --set 'train=[self_attn, self_atn]' --out "$TEST_DIR/none"
expect_says "train: no tensor of the model is meant by 'self_atn', did you mean 'self_attn'?"
expect_error 1 "train must be 1 to 16 names" "$R1" run micro --set 'train=[]' --out "$TEST_DIR/none"
