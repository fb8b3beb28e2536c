#!/bin/sh
# What a person brings: files of every kind, programs that reward, another run's models, recipes on top of built-in ones, every
# kind of loss, KL and cache.
set -eu
export OMP_WAIT_POLICY=passive
. tests/lib.sh
root=$PWD
dir=$TEST_DIR

cat >"$dir/traces.jsonl" <<'END_OF_FILE'
{"prompt": "1+1", "completion": "<think>one and one</think><answer>2</answer>"}
{"prompt": "2+2", "completion": "<think>two and two</think><answer>4</answer>"}
END_OF_FILE
cat >"$dir/messages.jsonl" <<'END_OF_FILE'
{"messages": [{"role": "user", "content": "1+1"}, {"role": "assistant", "content": "<think>one and one</think><answer>2</answer>"}]}
END_OF_FILE
cat >"$dir/preference.jsonl" <<'END_OF_FILE'
{"prompt": "2+2", "chosen": "<think>two and two</think><answer>4</answer>", "rejected": "five"}
END_OF_FILE
cat >"$dir/rows.jsonl" <<'END_OF_FILE'
{"prompt": "1+1", "answer": 2, "verifier": "integer"}
{"prompt": "2+2", "answer": "4/1", "verifier": "rational"}
{"prompt": "1+1", "answer": "2", "verifier": "exact"}
{"prompt": "2+2", "answer": "2+2", "verifier": "expression"}
END_OF_FILE

# A small model learns the traces by heart, then practises the rows.
recipe() { # MODEL
    cat <<END_OF_FILE
model: {hidden_size: 32, num_attention_heads: 2, num_hidden_layers: 2, intermediate_size: 64, $1}
tasks:
  - {file: $dir/rows.jsonl, heldout: 0}
eval: {n: 2, k: 2, general_n: 0}
stages:
  - name: learn
    kind: sft
    steps: 80
    batch: 8
    traces: 64
    lr: 1e-2
    tasks:
      - {file: $dir/traces.jsonl, weight: 2, heldout: 0}
      - {file: $dir/messages.jsonl, heldout: 0}
      - {file: $dir/preference.jsonl, heldout: 0}
  - {name: practise, kind: rl, from: learn, steps: 3, prompts: 2, group: 4, max_tokens: 40, lr: 1e-4, temperature: 1.2,
     rewards: [accuracy, format]}
END_OF_FILE
}
mla='kv_lora_rank: 16, n_routed_experts: 4, moe_intermediate_size: 32'
gqa='num_key_value_heads: 1, head_dim: 16'
recipe "$mla" >"$dir/mine.yaml"
cd "$dir"
run() { # FOLDER ARGUMENT...: of $recipe
    "$R1" run "${recipe:-mine.yaml}" --threads 1 --quiet --out "$@" >"$dir/out" 2>"$dir/said" || complain "run $*"
}
check() { (cd "$root" && python3 tests/run_check.py "$@"); }
run first
check metrics "$dir/first"
check learned "$dir/first" practise 0.5 # it knows the answers, by every verifier

# One stage that branches from that run, in every way to train it.
branch() { # FOLDER ARGUMENT...
    run "$@" --set 'stages=[practise]' --set practise.from=first/learn
    case "$*" in *cache=latent*) check metrics "$dir/$1" 1e-4 ;; *) check metrics "$dir/$1" ;; esac
}
branch again
branch again2
check same "$dir/again" "$dir/again2"
n=0
while read -r sets; do
    n=$((n + 1))
    # shellcheck disable=SC2086
    set -- $sets
    for key; do
        shift
        set -- "$@" --set "practise.$key"
    done
    branch "way$n" "$@"
done <<'END_OF_LIST'
loss=grpo kl=k3 beta=0.1 inner_epochs=2 mini_batches=2
loss=dapo kl=k2 beta=0.1 refill=2 clip_high=0.4
loss=dr_grpo kl=k3 beta=0.1 reference_reset=1 std_normalise=true
loss=grpo kl=exact beta=0.1 max_tokens=30 mask_truncated=true
loss=dapo cache=latent entropy_bonus=0.01 schedule=cosine
END_OF_LIST

# Rewards by a program; one that hangs gets its name into the verdicts, and the run goes on.
branch ten_lines --set "practise.rewards=[accuracy, {kind: external, name: steps, command: 'python3 $root/recipes/examples/reward_ten_lines.py'}]"
check rewarded "$dir/ten_lines" practise steps "few steps"
branch hangs --set "practise.rewards=[accuracy, {kind: external, name: slow, command: 'read -r l; echo \"{\\\"score\\\": 1}\"; exec sleep 60', timeout: 0.2}]"
grep -q "reward slow: [0-9]* of [0-9]* replies failed (timeout)" "$said" || complain "the failure is not told"
check rewarded "$dir/hangs" practise slow timeout
check failures "$dir/hangs" practise

# Filtered samples seed a cold start.
run seeded --set 'stages=[learn]' --set learn.from=first/learn --set learn.sample_from=first/learn --set learn.seed_share=0.5 \
    --set learn.traces=8 --set learn.steps=2 --set "learn.tasks=[{file: $dir/traces.jsonl, heldout: 0}]"
[ "$(wc -l <seeded/samples/learn.jsonl)" = 4 ] || complain "not 4 of 8 traces are samples"

# Other models, tokenizers, and a recipe of ours on top of a built-in one.
for model in "architecture: llama, $gqa" "architecture: qwen2, $gqa" "architecture: qwen3, tie_word_embeddings: true, $gqa" \
    "architecture: deepseek_v2, q_lora_rank: 16, n_group: 2, topk_method: group_limited_greedy, $mla" \
    "architecture: deepseek_v3, $mla"; do
    recipe "$model" >other.yaml
    rm -rf other
    recipe=other.yaml run other --set learn.steps=3 --set practise.steps=1
    check metrics "$dir/other"
done
printf 'extends: micro\nstages:\n  base: {steps: 3}\n  zero: {steps: 1}\neval: {n: 2, k: 2}\n' >ours.yaml
recipe=ours.yaml run ours --until zero
run bpe --set 'tokenizer={kind: bpe, vocab: 320, documents: 50}' --set learn.steps=3 --set practise.steps=1
check metrics "$dir/bpe"

# Warnings while they happen: nothing to learn from, everything cut off.
branch cut --set practise.max_tokens=2 --set practise.steps=12
check warned "$dir/cut" zero-gradient all-truncated
grep -q '^warning all-truncated (practise step' said || complain "the warning was not seen"
# Rewarded for being short, a policy stops to think and drifts from a reference that is never replaced.
printf '{"prompt": "1+1"}\n{"prompt": "2+2"}\n' >prompts.jsonl # no answers: only rewards judge
branch short --set 'practise.tasks=[{file: prompts.jsonl, heldout: 0}]' --set practise.rewards='[{kind: length}]' --set practise.lr=3e-3 --set practise.steps=24 --set practise.beta=1e-6 \
    --set practise.reference_reset=0 --set practise.warmup=0 --set practise.temperature=2 --set practise.group=8
check warned "$dir/short" stale-reference thinking-vanishes
