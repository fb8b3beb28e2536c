#!/bin/sh
# r1 ablate: arms share what they have in common, weights are those of runs of their own, a stopped ablation goes on, and what does
# not fit is said in one sentence.
set -eu
cd "$TEST_DIR"

hashes() { grep -o '"weights_sha256": "[0-9a-f]*"' "$1/summary.json" | sort; }

"$R1" ablate micro --grid rl_reason.rewards.language=0,1 --seeds 2 --out abl --jobs 2 >out 2>err || { cat err; exit 1; }
python3 - <<'P' || exit 1
import csv, json
o = json.load(open("abl/ablate.json"))
assert [a["name"] for a in o["arms"]] == ["language=0", "language=1"], o["arms"]
assert o["seeds"] == [1, 2] and o["until"] == "rl_reason"
# base and cold_start of each seed once, rl_reason of every arm and seed; zero, which it does not depend on, never
assert o["units"] == {"computed": 2 * 2 + 4, "reused": 2 * 2}, o["units"]
for arm in o["arms"]:
    for run in arm["runs"]:
        assert run["finished"] and len(run["weights_sha256"]) == 64
        assert len(run["computed"]) + len(run["reused"]) == 3
by_metric = {c["metric"]: c for c in o["comparisons"]}
c = by_metric["pass@1"]
assert c["a"] == "language=0" and c["b"] == "language=1"
assert c["ci95"][0] <= c["difference"] <= c["ci95"][1]
assert c["verdict"] in ("higher", "lower", "not resolved")
means = [a["metrics"]["pass@1"]["mean"] for a in o["arms"]]
assert abs(means[1] - means[0] - c["difference"]) < 1e-9
summary = json.load(open("abl/language=0-s1/summary.json"))
own = [s for s in summary["stages"] if s["name"] == "rl_reason"][0]["eval"]["all"]
for metric in ("pass@1", "format", "language"):  # one rule for each, in the summary and problem by problem
    value = o["arms"][0]["metrics"][metric]["per_seed"][0]
    assert abs(own[metric] - value) < 1e-6, (metric, own[metric], value)
rows = list(csv.DictReader(open("abl/ablate.csv")))
assert {r["arm"] for r in rows} == {"language=0", "language=1"} and len(rows) >= 4 * 7
P
grep -q 'r1 ablate micro --grid rl_reason.rewards.language=0,1' abl/ablate.html
grep -q 'Answers where arms differ' abl/ablate.html
! grep -qiE '<script|https?://' abl/ablate.html

# the weights of a run that shared nothing
"$R1" run micro --until rl_reason --set rl_reason.rewards.language=0 --set seed=2 --out alone --quiet >/dev/null 2>&1
hashes alone >a
[ "$(grep -c . a)" = 4 ]
hashes abl/language=0-s2 >own
[ "$(grep -c . own)" = 3 ] && [ -z "$(comm -23 own a)" ] || { echo "other weights than alone"; exit 1; }

# again: nothing is run; another arm: only that
"$R1" ablate micro --grid rl_reason.rewards.language=0,1 --seeds 2 --out abl --jobs 2 >/dev/null 2>err
grep -q '4 of 4 runs are there already' err
"$R1" ablate micro --grid rl_reason.rewards.language=0,1,2 --seeds 2 --out abl --jobs 2 >out 2>err
grep -q '4 of 6 runs are there already' err
grep -q 'language=2' out

# killed in the middle, children too: the same command goes on and ends in the same weights
"$R1" ablate micro --arm slow:cold_start.lr=1e-4 --seeds 1 --until rl_reason --out cut --jobs 1 >/dev/null 2>&1 &
pid=$!
while [ ! -f cut/recipe-s1/checkpoints/base.h5 ]; do sleep 0.05; done
kill -9 $pid
wait $pid 2>/dev/null || true
"$R1" ablate micro --arm slow:cold_start.lr=1e-4 --seeds 1 --until rl_reason --out cut --jobs 1 >out 2>err || { cat err; exit 1; }
"$R1" run micro --set cold_start.lr=1e-4 --only rl_reason --out alone2 --quiet >/dev/null 2>&1
hashes alone2 >b
hashes cut/slow-s1 | cmp - b

# Ctrl-C: 130, and how to go on
"$R1" ablate micro --grid zero.lr=1e-4,2e-4 --seeds 1 --out stop --jobs 1 >/dev/null 2>err &
pid=$!
while [ ! -f stop/lr=1e-4-s1/metrics.jsonl ]; do sleep 0.05; done
kill -INT $pid
code=0
wait $pid || code=$?
[ $code = 130 ] || { echo "exit code $code after Ctrl-C"; cat err; exit 1; }
grep -q 'Go on with: r1 ablate micro --grid zero.lr=1e-4,2e-4' err

refuse() { # CODE SENTENCE OPTIONS...
    want=$1 sentence=$2 code=0
    shift 2
    "$R1" ablate "$@" >out 2>err || code=$?
    [ $code = "$want" ] && grep -q -- "$sentence" err || { echo "ablate $*: code $code"; cat err; exit 1; }
}
refuse 2 'nothing to compare' micro
refuse 2 '--metric speed: there are pass@1' micro --grid zero.lr=1,2 --metric speed
refuse 1 'arms recipe and same are the same recipe' micro --arm same:zero.lr=5e-4 --out x
refuse 1 'expected KEY=VALUE,VALUE with 2' micro --grid zero.lr=1 --out x
refuse 1 'expected NAME:KEY=VALUE' micro --arm zero.lr=1 --out x
refuse 1 'stage reward_models is not evaluated' micro --grid reward_models.lr=1e-4,2e-4 --out x
refuse 1 'holds another run: stages.zero.group is 4 here and 8 there; choose another folder with --out$' micro --grid zero.lr=1e-4,2e-4 --seeds 1 --set zero.group=4 --out stop --jobs 1
refuse 1 'expected cpu, gpu' micro --grid zero.lr=1e-4,2e-4 --seeds 1 --out dev --device nowhere
[ -s dev/.probe/log.txt ] || [ -s dev/lr=1e-4-s1.log ]
