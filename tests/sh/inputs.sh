#!/bin/sh
# What a run reads besides its recipe: found beside the recipe from any folder, recorded, compared on resume.
set -eu
threads="--threads 1 --quiet"
mkdir -p "$TEST_DIR/work/sub" "$TEST_DIR/elsewhere"
cd "$TEST_DIR/work/sub"
cat >rows.jsonl <<'END'
{"prompt": "1+1", "completion": "<think>one and one</think><answer>2</answer>", "answer": "2"}
{"prompt": "2+2", "completion": "<think>two and two</think><answer>4</answer>", "answer": "4"}
END
cat >pay.py <<'END'
import json, sys
for line in sys.stdin:
    json.loads(line)
    print(json.dumps({"score": 0.5}), flush=True)
END
cat >r.yaml <<'END'
model: {hidden_size: 32, num_attention_heads: 2, num_hidden_layers: 1, intermediate_size: 32, kv_lora_rank: 16, n_routed_experts: 0}
tasks: [{file: rows.jsonl, heldout: 0}]
eval: {n: 1, k: 1, general_n: 0, max_tokens: 4}
stages:
  - {name: base, kind: sft, steps: 2, batch: 2, traces: 4, lr: 1e-3, eval_after: false}
  - {name: practise, kind: rl, from: base, steps: 1, prompts: 1, group: 2, max_tokens: 4, eval_after: false,
     rewards: [accuracy, {kind: external, command: python3 pay.py --quiet}]}
END

complain() { echo "$*"; cat "$TEST_DIR/said"; exit 1; }
passes() { "$@" >"$TEST_DIR/out" 2>"$TEST_DIR/said" || complain "$*: exit $?"; }
refuses() { # WORDS COMMAND...
    words=$1
    shift
    code=0
    "$@" >"$TEST_DIR/out" 2>"$TEST_DIR/said" || code=$?
    [ $code = 1 ] || complain "$*: exit $code"
    grep -q -- "$words" "$TEST_DIR/said" || complain "$*: does not say \"$words\""
}

here=$PWD
[ "$("$R1" run r.yaml --show practise.rewards.external.command)" = "python3 $here/pay.py --quiet" ] || complain "the program's path"

# From its own folder, from the one above, from a third one; and a model of the run evaluated there.
passes "$R1" run r.yaml --out ../run --until base $threads
cd "$TEST_DIR/elsewhere"
refuses "is not what this run began with" sh -c "sed -i s/one/ONE/ '$here/rows.jsonl'; '$R1' run ../work/sub/r.yaml --out ../work/run $threads"
grep -q 'rows.jsonl .*(1[0-9][0-9] bytes then' "$TEST_DIR/said" || complain "the sentence names no size"
sed -i s/ONE/one/ "$here/rows.jsonl"
refuses "pay.py is not what" sh -c "echo '# edited' >>'$here/pay.py'; '$R1' run ../work/sub/r.yaml --out ../work/run $threads"
sed -i '$d' "$here/pay.py"
passes "$R1" eval ../work/run/base --n 1 --k 1 --max-tokens 4

# The folder is moved, run and all: the same files elsewhere are the same run.
mv "$TEST_DIR/work" "$TEST_DIR/moved"
passes "$R1" run ../moved/sub/r.yaml --out ../moved/run $threads
grep -q '"path": ".*/rows.jsonl"' ../moved/run/summary.json || complain "no record in summary.json"
grep -q '"sha256": "'"$(sha256sum ../moved/sub/pay.py | cut -d' ' -f1)"'"' ../moved/run/summary.json || complain "the program's hash"

# A file in the working folder is taken where none lies beside the recipe.
cp ../moved/sub/r.yaml ../moved/sub/pay.py .
refuses "rows.jsonl" "$R1" run r.yaml --out x $threads
mkdir deeper
mv r.yaml deeper
cp ../moved/sub/rows.jsonl .
passes "$R1" run deeper/r.yaml --out here --until base $threads
