#!/bin/sh
# A checkpoint of a partly trained model holds what was trained and names its base: opened by every command it gives the weights of
# the run, killed it goes on, a chain of stages and runs names the first base, and another or missing base is refused in one sentence.
set -eu
. tests/lib.sh
export OMP_WAIT_POLICY=passive
cd "$TEST_DIR"
run() { expect_exit 0 "$R1" run "$@" --threads 1 --quiet; }
hash_of() { "$R1" inspect "$@" --sha256 | grep weights_sha256 | cut -d' ' -f2; }
summary() { python3 -c 'import json, sys; print([s["weights_sha256"] for s in json.load(open(sys.argv[1] + "/summary.json"))["stages"] if s["name"] == sys.argv[2]][0])' "$@"; }
held() { "$R1" inspect "$1" --json | python3 -c 'import json, sys; o = json.load(sys.stdin); print(o["base"]["held"], o["base"]["path"].rsplit("/", 1)[-1])'; }

{
    small_v2 2 4 16
    cat <<'END'
tokenizer: {kind: bpe, vocab: 300, documents: 50}
tasks: [add]
rewards: {accuracy: 1}
stages:
  base: {kind: pretrain, steps: 10, batch: 8, warmup: 0, eval_after: false}
END
} >base.yaml
cat >part.yaml <<'END'
model: {from: base.hf}
train: [layers.1.self_attn]
tasks: [add]
rewards: {accuracy: 1, overlong: {weight: 1, buffer: 6}}
stages:
  sft: {kind: sft, steps: 4, batch: 4, traces: 16, warmup: 0, lr: 1e-2, eval_after: false}
  zero: {kind: rl, from: sft, steps: 4, prompts: 4, group: 4, max_tokens: 8, beta: 0.01, reference_reset: 2, eval_after: false}
END
sed 's/^train:.*/lora: {rank: 4, alpha: 8, targets: [attention, experts]}/' part.yaml >lora.yaml
echo '{"ids": [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3]}' >ids.jsonl
run base.yaml --out base
"$R1" export base/base --format hf -o base.hf >"$out"
"$R1" export base/base --format gguf -o base.gguf >"$out"

for kind in part lora; do
    run $kind.yaml --out $kind
    for stage in sft zero; do expect "$(summary $kind $stage)" "$(hash_of $kind/$stage)"; done
    expect "$(held $kind/sft)" "$(held $kind/zero)"
    # Killed in the middle of either stage (the second with a reference policy), it ends in the same weights.
    for at in '"sft", "step": 2,' '"zero", "step": 3,'; do
        kill_when "\"stage\": $at" "killed.$kind/metrics.jsonl" "$R1" run $kind.yaml --threads 1 --checkpoint-seconds 0 --quiet \
            --out "killed.$kind"
    done
    run $kind.yaml --out killed.$kind
    expect "$(summary $kind zero)" "$(summary killed.$kind zero)"
done
expect "5 base.hf" "$(held part/zero)" # q, kv_a, its norm, kv_b, o of one layer
[ "$(wc -c <part/checkpoints/zero.h5)" -lt "$(wc -c <base/checkpoints/base.h5)" ] || complain 'a part is not smaller than all'

# Another run goes on from it: the base stays the first one. All of a model that was trained in part: a whole checkpoint.
run part.yaml --out next --set model.from=part/zero --set 'train=[layers.0.mlp]' --until sft
expect "8 base.hf" "$(held next/sft)"
expect "$(summary next sft)" "$(hash_of next/sft)"
run part.yaml --out all --set model.from=part/zero --set 'train=[all]' --until sft
if "$R1" inspect all/sft | grep 'the other'; then complain 'a run that trained everything has a base'; fi
# A .gguf file and a checkpoint as bases; the same numbers, the same result.
for from in base.gguf base/base; do
    run part.yaml --out other --set model.from=$from --until sft
    expect "5 $(basename $from | sed 's/^base$/base.h5/')" "$(held other/sft)"
    expect "$(summary part sft)" "$(hash_of other/sft)"
    rm -r other
done

# A stage of the same identity is linked, base and all; an import stands alone.
expect_exit 0 "$R1" run part.yaml --threads 1 --out again --reuse part
expect_says "zero: reused from"
expect "$(summary part zero)" "$(hash_of again/zero)"
expect_exit 0 "$R1" import part/zero -o whole.h5
expect "$(summary part zero)" "$(hash_of whole.h5)"
if "$R1" inspect whole.h5 | grep 'the other'; then complain 'an import has a base'; fi

# Every command reads the base again.
"$R1" score part/zero --ids ids.jsonl --threads 1 >want
"$R1" export part/zero --format hf -o merged >"$out"
"$R1" score merged --ids ids.jsonl --threads 1 >"$out"
cmp "$out" want
mv base.hf moved
for command in "score part/zero --ids ids.jsonl" "generate part/zero --ids ids.jsonl --max-tokens 2" "inspect part/zero" \
    "export part/zero --format hf -o no" "eval part/zero --task add --n 2" "import part/zero -o no.h5"; do
    # shellcheck disable=SC2086
    expect_exit 1 "$R1" $command
    expect_says "is not there: say with --base DIR where it lies now"
    [ "$(wc -l <"$said")" = 1 ] || complain "$command: more than one sentence"
done
expect_exit 1 "$R1" run lora.yaml --out no --quiet --set model.from=part/zero
expect_says "is not there: say with --base DIR where it lies now"
expect_exit 0 "$R1" score part/zero --ids ids.jsonl --threads 1 --base moved
cmp "$out" want
expect_exit 0 "$R1" export part/zero --format gguf -o part.gguf --base moved
expect "$(summary part zero)" "$(hash_of part/zero --base moved)"
expect_error 1 "stands on the model that" "$R1" score part/zero --ids ids.jsonl --base base/base
# A run whose model.from was moved begins and goes on with --base.
run part.yaml --out later --base moved --until sft
run part.yaml --out later --base moved
expect "$(summary part zero)" "$(summary later zero)"
expect_exit 1 "$R1" run part.yaml --out later2 --quiet --threads 1
[ ! -e later2 ] || complain 'a run without its model left a folder'
# One changed number of the base is another base.
mv moved base.hf
python3 - <<'END'
import os
f = open("base.hf/model.safetensors", "r+b")
f.seek(os.path.getsize(f.name) // 2 // 4 * 4)
f.write(b"\0\0\0\0")
END
expect_error 1 "is another one" "$R1" score part/zero --ids ids.jsonl
rm killed.part/checkpoints/zero.h5
expect_exit 1 "$R1" run part.yaml --out killed.part --quiet --threads 1
expect_says "is another one"
