#!/bin/sh
# What became of a user's rows is told: on the terminal when a stage starts and before it is evaluated, and in summary.json. An
# epoch is every row of the file.
set -eu
export OMP_WAIT_POLICY=passive
dir=$TEST_DIR
said=$dir/said
complain() { echo "$1"; cat "$said"; exit 1; }
has() { grep -q "$1" "$said" || complain "does not say: $1"; }

python3 - "$dir" <<'END_OF_FILE'
import json, sys
def write(name, rows):
    with open(f"{sys.argv[1]}/{name}", "w") as f:
        for row in rows: f.write(json.dumps(row) + "\n")
write("traces.jsonl", [{"prompt": f"q{k}", "completion": "1" * (300 if k % 4 == 0 else 3)} for k in range(40)])
write("twice.jsonl", [{"prompt": f"t{k % 3}", "answer": k % 3} for k in range(6)])
write("rows.jsonl", [{"prompt": f"r{k}", **({"answer": k} if k % 3 else {})} for k in range(30)])
END_OF_FILE
cat >"$dir/mine.yaml" <<END_OF_FILE
model: {architecture: llama, hidden_size: 32, num_attention_heads: 2, num_hidden_layers: 1, intermediate_size: 64, num_key_value_heads: 1, head_dim: 16}
tasks: [{file: $dir/rows.jsonl, heldout: 0.2}]
eval: {n: 200, k: 1, general_n: 0, max_tokens: 8}
stages:
  - {name: learn, kind: sft, epochs: 2, batch: 8, max_length: 64, lr: 0, tasks: [{file: $dir/traces.jsonl, heldout: 0}], eval_after: false}
  - {name: practise, kind: rl, from: learn, steps: 3, prompts: 4, group: 2, max_tokens: 8, lr: 0, rewards: {accuracy: 1}}
  - {name: known, kind: sft, from: learn, steps: 1, batch: 2, lr: 0, tasks: [{file: $dir/rows.jsonl, heldout: 0}]}
  - {name: read, kind: pretrain, steps: 3, batch: 10, lr: 0, tasks: [{file: $dir/rows.jsonl, heldout: 0}], eval_after: false}
  - {name: twice, kind: sft, from: learn, steps: 1, batch: 2, lr: 0, tasks: [{file: $dir/twice.jsonl, heldout: 0}]}
END_OF_FILE
"$R1" run "$dir/mine.yaml" --threads 1 --quiet --out "$dir/run" >"$dir/out" 2>"$said" || complain "does not run"
has "learn: data: .*traces.jsonl: 40 rows, 10 longer than max_length 64 dropped, 30 used, each met 2.13 times$" # 8 steps of 8
has "practise: data: .*rows.jsonl: 30 rows, [1-9][0-9]* held out, 12 used, each met 0\.48 times, [1-9][0-9]* without a gold answer"
has "practise: evaluated on rows.jsonl: 5 held-out rows, 2 without a gold answer; 1 samples each"
has "known: data: .*rows.jsonl: 30 rows, 10 without a reply left out, 20 used"
has "known: evaluated on rows.jsonl: 30 rows, none held out: these are the rows that stages train on"
grep -q "<td>learn</td><td>.*traces.jsonl</td><td class='n'>40</td><td class='n'></td><td class='n'></td><td class='n'>10</td><td class='n'>30</td>" \
    "$dir/run/report.html" || complain "the report does not count the rows"
python3 - "$dir/run/summary.json" <<'END_OF_FILE'
import json, sys
stages = {s["name"]: s for s in json.load(open(sys.argv[1]))["stages"]}
learn = stages["learn"]["data"][0]
assert (learn["rows"], learn["too_long"], learn["used_rows"], learn["used"]) == (40, 10, 30, 30), learn
assert stages["learn"]["steps"] == 8, stages["learn"]["steps"]
all = stages["practise"]["eval"]["all"]
assert all["n"] == all["distinct"] == stages["practise"]["data"][0]["held_out"], all
known = stages["known"]["eval"]["rows.jsonl"]
assert known["n"] == known["distinct"] == 30 and known["no_holdout"], known
twice = stages["twice"]["eval"]["twice.jsonl"]
assert twice["n"] == 6 and twice["distinct"] == 3, twice
assert stages["read"]["dropped"] == 10, stages["read"] # rows without a reply
END_OF_FILE

# A row without a prompt is nothing to sample an answer to.
printf '{"text": "a"}\n{"text": "b"}\n' >"$dir/text.jsonl"
if "$R1" run "$dir/mine.yaml" --threads 1 --quiet --until practise --set learn.epochs=1 --set "practise.tasks=[{file: $dir/text.jsonl}]" --out "$dir/text" \
    >"$dir/out" 2>"$said"; then complain "RL on plain text"; fi
has 'a row of text is plain text ("text"): there is no prompt to sample an answer to'
