#!/bin/sh
# Models that only compute forward beside a policy, a teacher and reward models, and whose weights rest in their files where they do not
# fit: r1 run gives the weights of one with everything in memory. A teacher that samples for a student, a teacher and judges that are
# read, with the policy in memory and on disk. And gradients of all weights of a model of which neither weights nor gradients fit.
set -eu
. tests/lib.sh
export OMP_WAIT_POLICY=passive
cd "$TEST_DIR"
run() { "$R1" run "$@" --threads 1; }
hashes() { grep -o '"weights_sha256[^,}]*' "$1/summary.json"; }

cat >two.jsonl <<'END'
{"prompt": "1+1", "completion": "<think>a</think><answer>2</answer>"}
{"prompt": "2+2", "completion": "<think>b</think><answer>4</answer>"}
END
{
    small_v2 3 16 2048
    cat <<'END'
tasks: [{file: two.jsonl, heldout: 0}]
general: {helpful: {levels: 1}, refusal: {levels: 1}}
rewards: {accuracy: 1}
stages:
  base: {kind: pretrain, steps: 2, batch: 4, lr: 1e-2, warmup: 0, general_share: 0.2, eval_after: false}
  teacher: {kind: sft, from: base, steps: 40, batch: 4, lr: 1e-2, warmup: 2, eval_after: false}
END
} >base.yaml
# A dense student: on the teacher's samples and its distribution, on its own samples.
cat >read.yaml <<'END'
model: {architecture: llama, hidden_size: 24, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1, head_dim: 12,
        intermediate_size: 48, max_position_embeddings: 256}
tasks: [{file: two.jsonl, heldout: 0}]
rewards: {accuracy: 1}
stages:
  pupil: {kind: pretrain, steps: 2, batch: 4, lr: 1e-2, warmup: 0, eval_after: false}
  read: {kind: distill, from: pupil, sample_from: base/teacher, objective: forward_kl, sample_prompts: 8, samples: 4, keep: 1, batch: 2,
         epochs: 1, max_length: 96, max_tokens: 50, lr: 1e-3, warmup: 0, eval_after: false}
END
sed '/^  read/,$d' read.yaml >own.yaml
cat >>own.yaml <<'END'
  own: {kind: distill, from: pupil, sample_from: base/teacher, objective: on_policy, sample_prompts: 8, samples: 2, batch: 4, epochs: 1,
        max_tokens: 20, lr: 1e-3, warmup: 0, eval_after: false}
END
# Adapters on a model as large as its teacher, and as its judges, which are adapters on it under scalar heads.
cat >both.yaml <<'END'
model: {from: base.hf}
lora: {rank: 2, alpha: 4, targets: [attention, experts]}
tasks: [{file: two.jsonl, heldout: 0}]
general: {helpful: {levels: 1}, refusal: {levels: 1}}
rewards: {accuracy: 1, helpful_rm: 1, safety_rm: 1}
stages:
  start: {kind: sft, steps: 1, batch: 2, lr: 1e-3, warmup: 0, eval_after: false}
  own: {kind: distill, from: start, sample_from: base/teacher, objective: on_policy, sample_prompts: 4, samples: 2, batch: 4, epochs: 1,
        max_tokens: 20, lr: 1e-3, warmup: 0, eval_after: false}
END
sed '/^  start/,$d' both.yaml >judged.yaml
cat >>judged.yaml <<'END'
  judges: {kind: reward_model, pairs: 8, safety_examples: 8, heldout_pairs: 2, batch: 4, lr: 1e-2, warmup: 0}
  judged: {kind: rl, from: base.hf, reward_models: judges, steps: 2, prompts: 3, group: 3, max_tokens: 12, general_share: 0.7, preference_last: 1,
           eval_after: false, lr: 1e-2}
END
sed '/^  judged/,$d' judged.yaml >judges.yaml
run base.yaml --out base --quiet >"$out" 2>"$said" || complain 'the teacher'
"$R1" export base/base --format hf -o base.hf >"$out"
peak() { # RECIPE ARGUMENT...: MB that its last stage takes
    name=$1
    shift
    "$R1" plan "$name.yaml" --threads 1 "$@" 2>&1 | sed -n "s/^$name .*peak \([0-9]*\) MB.*/\1/p"
}

# WORDS RECIPE ARGUMENT...: the models that WORDS names rest on disk with --memory $gb, and the weights are those of `all`.
rests() {
    words=$1
    recipe=$2
    shift 2
    rm -rf some
    R1_STRICT=1 R1_RING=2 run $recipe.yaml "$@" --memory "$gb" --out some >"$out" 2>"$said" || complain "$recipe --memory $gb"
    for word in $words; do
        grep "$word" "$said" | grep -q 'is larger than its memory' || complain "$recipe --memory $gb: $word is in memory"
        # What samples takes more beside its weights: in bf16 all experts fit then, at 2 bytes a weight.
        [ $recipe = read ] || grep "$word" "$said" | grep -q 'stay on disk' || complain "$recipe --memory $gb: nothing of $word stayed on disk"
    done
    expect "$(hashes all)" "$(hashes some)"
}
for precision in f32 bf16; do
    for recipe in read own both judges judged; do
        rm -rf all
        run $recipe.yaml --precision $precision --memory 4 --out all --quiet >"$out" 2>"$said" || complain "$recipe in memory"
        case $recipe in both | judges | judged) find_least run $recipe.yaml --precision $precision --out refused ;; esac
        case $recipe in
        both) on_disk='start.h5 teacher.h5' read=teacher.h5 ;;
        judges) on_disk=base.hf read= ;;
        judged) on_disk='base.hf judges.helpful.h5 judges.safety.h5' read=judges.helpful.h5 ;;
        *) on_disk= ;;
        esac
        if [ -n "$on_disk" ]; then # at the least, and with a little more
            rests "$on_disk" $recipe --precision $precision
            [ -z "$read" ] || grep -q "$read: read [1-9]" "$said" || complain "did not say what it read of $read"
            gb=$(awk -v gb="$gb" 'BEGIN { printf "%.4f", gb + 0.005 }')
            rests '' $recipe --precision $precision
            continue
        fi
        # With the teacher in memory, and at the least.
        most=$(peak $recipe --precision $precision)
        few=$(peak $recipe --precision $precision --memory "0.$(printf %03d $((most - 12)))")
        [ $((few + 12)) -le "$most" ] || complain "$recipe: the teacher takes nothing: $few of $most MB"
        for mb in $((few + 2)) $((few + 6)); do
            gb=0.$(printf %03d $mb)
            rests teacher.h5 $recipe --precision $precision
        done
    done
done

# Gradients rest in a file without a name while they are computed; the file that is written is the one of a run in memory.
echo '{"ids": [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4, 3, 3, 8, 3, 2, 7, 9, 5]}' >ids
export R1_RESIDENT=4000000
score() { "$R1" score base/base --ids ids --threads 1 --aux expert=0.1 --with logprobs,hidden,router,grad "$@"; }
for precision in f32 bf16; do
    score --precision $precision --memory 4 --out all.st >all.txt 2>"$said" || complain 'gradients in memory'
    find_least score --precision $precision --out some.st
    least=$gb
    for more in 0 0.008; do
        gb=$(awk "BEGIN { print $least + $more }")
        R1_STRICT=1 R1_RING=2 score --precision $precision --memory "$gb" --out some.st >some.txt 2>"$said" || complain "gradients with --memory $gb"
        expect_says 'stay on disk'
        expect_says 'gradients, .* GB, rest in'
        cmp all.txt some.txt
        cmp all.st some.st
        [ -z "$(find . -name 'weights.tmp*')" ] || complain 'a temporary file stays'
    done
done

# r1 eval with a judge: two models larger than their shares of the budget.
judge() { "$R1" eval base/teacher --rm all/judges.helpful --best-of 2 --by helpful_rm --task two.jsonl --n 2 --max-tokens 4 --threads 1 "$@"; }
judge --memory 4 >whole.txt 2>"$said" || complain 'eval with a judge in memory'
R1_STRICT=1 R1_RING=2 judge --memory 0.849 >some.txt 2>"$said" || complain 'eval with a judge'
for word in teacher.h5 judges.helpful.h5; do
    grep "$word" "$said" | grep -q 'is larger than its memory' || complain "eval: $word is in memory"
done
expect_says 'stay on disk'
cmp whole.txt some.txt
