#!/bin/sh
# What r1 eval does at test time: chosen samples, worked examples, budgets of thoughts, refinements; the same numbers twice.
set -eu
export OMP_WAIT_POLICY=passive
. tests/lib.sh
dir=$TEST_DIR
cat >"$dir/think.yaml" <<'END_OF_FILE'
model: {architecture: llama, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1, head_dim: 16,
        intermediate_size: 64, max_position_embeddings: 160}
tasks: {sort: {levels: 3}}
general: {helpful: {levels: 1}, refusal: {levels: 1}}
eval: {n: 6, k: 2, temperature: 1, max_tokens: 40, general_n: 4}
stages:
  - {name: base, kind: pretrain, steps: 400, batch: 16, lr: 1e-2, styles: {clean: 1}, warmup: 5, general_share: 0.3}
  - {name: judges, kind: reward_model, from: base, pairs: 16, safety_examples: 8, heldout_pairs: 8, batch: 8, lr: 1e-3, warmup: 1}
END_OF_FILE
expect_exit 0 "$R1" run "$dir/think.yaml" --quiet --threads 1 --out "$dir/run"

evaluate() { # NAME OPTIONS..: JSON twice, equal
    name=$1
    shift
    expect_exit 0 "$R1" eval "$dir/run/base" --threads 1 --n 6 --json "$@"
    cp "$out" "$dir/$name.json"
    expect_exit 0 "$R1" eval "$dir/run/base" --threads 2 --n 6 --json "$@"
    cmp "$out" "$dir/$name.json" || complain "$name: two evaluations differ"
}
evaluate plain --k 4
evaluate verifier --best-of 4 --by verifier
evaluate likely --best-of 2 --k 4
evaluate judged --best-of 4 --by helpful_rm --rm "$dir/run/judges.helpful"
evaluate shots --k 4 --shots 2
evaluate short --k 4 --effort 3
evaluate long --k 4 --effort +20
evaluate told --k 4 --refine 2 --feedback verdict
evaluate again --k 4 --refine 2
python3 - "$dir" <<'END_OF_FILE'
import json, sys
e = {n: json.load(open(f"{sys.argv[1]}/{n}.json")) for n in
     "plain verifier likely judged shots short long told again".split()}
sort = {n: v["sort"] for n, v in e.items()}
assert sort["verifier"]["best_of"]["score"] == sort["plain"]["pass@4"] == sort["verifier"]["pass@4"]
assert sort["likely"]["pass@1"] == sort["plain"]["pass@1"] and sort["likely"]["best_of"]["by"] == "likelihood"
helpful = e["judged"]["general"]["helpful"]
assert helpful["best_of"]["n"] == 4 and helpful["score"] == e["judged"]["helpful"]
assert sort["shots"] != sort["plain"] and "closed" not in sort["plain"] and "best_of" not in sort["plain"]
assert sort["short"]["closed"] > 0 and sort["short"]["continued"] == 0 and sort["long"]["continued"] > 0
told, again = sort["told"]["refine"], sort["again"]["refine"]
assert abs(told[0]["asked"] - (1 - sort["told"]["pass@1"])) < 1e-6 and told[0]["broken"] == 0
assert again[0]["asked"] == 1 and len(again) == 2
for rounds, before in ((told, sort["told"]), (again, sort["again"])):
    score = before["pass@1"]
    for r in rounds:
        score += r["fixed"] - r["broken"]
        assert abs(score - r["pass@1"]) < 1e-6
END_OF_FILE

expect_error 2 "--rm" "$R1" eval "$dir/run/base" --best-of 2 --by helpful_rm
expect_error 2 "--k 2" "$R1" eval "$dir/run/base" --best-of 4 --k 2
expect_error 1 "not a reward model" "$R1" eval "$dir/run/base" --best-of 2 --by helpful_rm --rm "$dir/run/base"
expect_error 1 "low, medium" "$R1" eval "$dir/run/base" --effort much
printf '{"prompt": "1+1", "answer": 2}\n' >"$dir/one.jsonl"
expect_error 1 "holds no rows out" "$R1" eval "$dir/run/base" --task "$dir/one.jsonl" --shots 1

# Multiple choice: by likelihood, beside sampled families; not mixed within a file.
i=0
while [ $i -lt 9 ]; do
    printf '{"prompt": "sort 3%s1", "options": ["13%s", "%s3"], "answer": 0, "verifier": "choice"}\n' $i $i $i
    i=$((i + 1))
done >"$dir/choice.jsonl"
evaluate choice --task "sort,$dir/choice.jsonl" --levels 3,3 --k 2
evaluate shown --task "$dir/choice.jsonl" --heldout 0.4 --shots 1
python3 - "$dir" <<'END_OF_FILE'
import json, sys
both, shown = (json.load(open(f"{sys.argv[1]}/{n}.json")) for n in ("choice", "shown"))
rows = both["choice"]["choice.jsonl"]
assert rows["n"] == 6 and rows["chance"] == 0.5 and rows["no_holdout"] and "choice.jsonl" not in both
assert both["all"]["n"] == both["sort"]["n"] == 6
assert 0 < shown["choice"]["choice.jsonl"]["n"] < 9 and "no_holdout" not in shown["choice"]["choice.jsonl"]
END_OF_FILE
expect_exit 0 "$R1" eval "$dir/run/base" --task "$dir/choice.jsonl"
expect_prints 'chosen by likelihood'
cat "$dir/one.jsonl" >>"$dir/choice.jsonl"
expect_error 1 "files of their own" "$R1" eval "$dir/run/base" --task "$dir/choice.jsonl"

# The same as keys of a recipe, for the evaluations of a run; r1 eval takes them from there.
expect_exit 0 "$R1" run "$dir/think.yaml" --quiet --threads 1 --out "$dir/keys" --until base --set eval.shots=1 --set eval.effort=3
expect_exit 0 "$R1" eval "$dir/keys/base" --task sort --n 6 --k 2 --json
python3 - "$dir" "$out" <<'END_OF_FILE'
import json, sys
lines = [json.loads(line) for line in open(f"{sys.argv[1]}/keys/metrics.jsonl")]
run = [line["eval"]["sort"] for line in lines if "eval" in line][-1]
assert run == json.load(open(sys.argv[2]))["sort"] and run["closed"] > 0, run
END_OF_FILE
expect_error 1 "eval.effort is low" "$R1" run "$dir/think.yaml" --out "$dir/none" --set eval.effort=some
printf 'extends: %s\ntasks: [{file: %s, heldout: 0}]\neval: {shots: 1}\n' "$dir/think.yaml" "$dir/one.jsonl" >"$dir/rows.yaml"
expect_error 1 "holds none out" "$R1" run "$dir/rows.yaml" --out "$dir/none"
