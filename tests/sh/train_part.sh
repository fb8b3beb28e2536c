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
[ ! -e "$TEST_DIR/none" ] || complain 'a refused name left a run folder'

# A name need only mean something in a model that the recipe trains: a dense student is trained whole, which is said. FLOPs count
# the forward pass, the layers that backward visits and what is trained of them.
cat >"$TEST_DIR/two.yaml" <<'END'
model: {hidden_size: 32, num_hidden_layers: 3, num_attention_heads: 2, intermediate_size: 48, n_routed_experts: 4,
        num_experts_per_tok: 2, moe_intermediate_size: 16, max_position_embeddings: 128}
student: {architecture: llama, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 2, head_dim: 16,
          intermediate_size: 64, max_position_embeddings: 128}
train: ["layers.2.mlp.experts.[01]"]
tasks: [add]
rewards: {accuracy: 1}
stages:
  base: {kind: pretrain, steps: 2, batch: 4, warmup: 0, eval_after: false}
  student_base: {kind: pretrain, model: student, steps: 2, batch: 4, warmup: 0, eval_after: false}
END
expect_exit 0 "$R1" run "$TEST_DIR/two.yaml" --threads 1 --out "$TEST_DIR/two"
expect_says "base: trains [0-9]* of [0-9]* parameters; backward visits 1 of 3 layers"
expect_says "student_base: no name of .train. means a tensor of this model: all of its [0-9]* parameters are trained"
expect_exit 0 "$R1" inspect "$TEST_DIR/two/base" --tensors --json
python3 - "$out" "$TEST_DIR/two/summary.json" <<'END'
import json, sys
table = [(t["name"], t["parameters"]) for t in json.load(open(sys.argv[1]))["table"]]
base, student = json.load(open(sys.argv[2]))["stages"]
def met(names):  # 2 of 4 experts a token; the embedding is looked up
    return sum(n * (0.5 if ".mlp.experts." in name else 1) for name, n in table if "embed" not in name and names(name))
trained = lambda name: ".2.mlp.experts.0." in name or ".2.mlp.experts.1." in name
visited = lambda name: "layers" not in name or "layers.2." in name
want = 2 * (met(lambda name: True) + met(visited) + met(trained)) * base["tokens_trained"]
assert base["flops"] == want, (base["flops"], want)
assert base["parameters_trained"] == sum(n for name, n in table if trained(name)) and "parameters_trained" not in student
END
