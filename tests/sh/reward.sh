#!/bin/sh
# r1 reward: stored rollouts under another reward, and degenerate answers before one.
set -eu
cd "$TEST_DIR"
"$R1" run micro --until zero --set zero.steps=4 --set base.steps=120 --out run --quiet >/dev/null 2>&1

# the same rewards give the stored ones back; other weights the numbers that follow from the stored parts
"$R1" reward run/zero --with '{accuracy: 1, format: 1, language: 0.5}' --json >same.json
"$R1" reward run/zero --with '{accuracy: 1}' --json >accuracy.json
cat >program.py <<'P'
import json, sys
for line in sys.stdin:
    r = json.loads(line)
    print(json.dumps({"score": len(r["completion"]) / 100}), flush=True)
P
"$R1" reward run/zero --with "python3 program.py" --json >program.json
[ -s run/reward-zero.html ] && ! grep -qiE '<script|https?://' run/reward-zero.html
for step in 1 2 3 4; do
    for prompt in 0 1 2 3; do "$R1" inspect run --stage zero --step $step --prompt $prompt --json; done
done >samples.jsonl
python3 - <<'P'
import json
same, acc, prog = (json.load(open(f + ".json")) for f in ("same", "accuracy", "program"))
samples = [json.loads(l) for l in open("samples.jsonl")]
assert same["samples"] == len(samples) == 4 * 4 * 8 and same["left_out"] == 0, same["samples"]
assert same["advantages_that_change_sign"] == 0 and abs(same["was"]["mean"] - same["now"]["mean"]) < 1e-6
mean = lambda x: sum(x) / len(x)
assert abs(acc["now"]["mean"] - mean([s["parts"]["accuracy"] for s in samples])) < 1e-6
assert abs(acc["was"]["mean"] - mean([s["reward"] for s in samples])) < 1e-5
c = acc["now"]["confusion"]
assert c["wrong_paid"] == 0 and sum(c.values()) == len(samples)   # accuracy alone never pays a wrong answer
flat = mean([len({s["parts"]["accuracy"] for s in samples[i:i + 8]}) == 1 for i in range(0, len(samples), 8)])
assert abs(acc["now"]["groups_without_variance"] - flat) < 1e-9
assert prog["program_failures"] == 0
assert abs(prog["now"]["mean"] - mean([len(s["completion"]) / 100 for s in samples])) < 1e-5
assert prog["examples"] and prog["advantages_that_change_sign"] > 0
P

# rewards that hold, one that can be won, and an attack of one's own
"$R1" reward --attack '{accuracy: 1, format: 1}' --json >hold.json
"$R1" reward --attack '{repetition: -1}' --json >won.json
printf '{"name": "mine", "completion": "<think>%s</think><answer>{wrong}</answer> bonus"}\n' 'a b' >more.jsonl
cat >bonus.py <<'P'
import json, sys
for line in sys.stdin:
    print(json.dumps({"score": float("bonus" in json.loads(line)["completion"])}), flush=True)
P
"$R1" reward --attack "python3 bonus.py" --more more.jsonl --json --out attack.html >mine.json
python3 - <<'P'
import json
paid = lambda f: {a["attack"] for x in json.load(open(f))["families"] for a in x["attacks"] if a["above_honest_wrong"] and not a["has_the_right_answer"]}
hold = json.load(open("hold.json"))
assert len(hold["families"]) >= 5 and all(len(x["attacks"]) >= 20 for x in hold["families"])
add = [x for x in hold["families"] if x["family"] == "add"][0]
assert add["honest_right"] == 2 and add["honest_wrong"] == 1
assert paid("hold.json") == set(), paid("hold.json")
assert "thought repeated" in paid("won.json"), paid("won.json")
assert paid("mine.json") == {"mine"}, paid("mine.json")
P
[ -s attack.html ]

refuse() { # CODE SENTENCE OPTIONS...
    want=$1 sentence=$2 code=0
    shift 2
    "$R1" reward "$@" >out 2>err || code=$?
    [ $code = "$want" ] && grep -q -- "$sentence" err || { echo "reward $*: code $code"; cat err; exit 1; }
}
refuse 2 'give --with' run/zero
refuse 2 '--attack takes no run' run/zero --attack '{accuracy: 1}'
refuse 1 'does not sample for a reward' run/base --with '{accuracy: 1}'
refuse 1 'has no rollouts of a stage' run/rl_reason --with '{accuracy: 1}'
refuse 1 'nowhere is no run folder' nowhere/zero --with '{accuracy: 1}'
refuse 1 'acuracy' run/zero --with '{acuracy: 1}'
echo '{"name": 1}' >bad.jsonl
refuse 1 'bad.jsonl: line 1: expected' --attack '{accuracy: 1}' --more bad.jsonl
