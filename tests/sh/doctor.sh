#!/bin/sh
# r1 doctor finds in the metrics what the run itself warned of, and nothing else; it reads runs that are not over.
set -eu
cd "$TEST_DIR"
"$R1" run micro --until zero --set base.steps=60 --set base.eval_after=false --set zero.eval_after=false --set zero.steps=14 \
    --set zero.max_tokens=2 --set zero.refill=0 --out run --quiet >/dev/null 2>&1
"$R1" doctor run --json >report.json
python3 - <<'P'
import json
report = json.load(open("report.json"))
told = [(l["stage"], l["step"], l["warning"]["name"]) for l in map(json.loads, open("run/metrics.jsonl")) if "warning" in l]
found = [(w["stage"], w["step"], w["name"]) for w in report["warnings"]]
assert ("zero", 10, "all-truncated") in found, found
assert found == told and all(w["told_by_the_run"] for w in report["warnings"]), (found, told)
assert report["rl_stages"] == 1 and report["steps"] == 14
P
"$R1" doctor run | grep -q 'zero, step 10: all-truncated'

# half of the lines, without what the run said: found all the same, and said so
mkdir half
cp run/recipe.yaml half/
grep -v '"warning"' run/metrics.jsonl | head -n 72 >half/metrics.jsonl
"$R1" doctor half | grep -q 'all-truncated (the run did not say so)'

code=0
"$R1" doctor nowhere 2>err || code=$?
[ $code = 1 ] && grep -q 'nowhere is no run folder' err
head -n 5 run/metrics.jsonl >half/metrics.jsonl
code=0
"$R1" doctor half 2>err || code=$?
[ $code = 1 ] && grep -q 'half has no step of an rl stage yet' err

# without a run: the machine. Rates are measured once and kept; a broken file of them is no obstacle
export XDG_CACHE_HOME=$TEST_DIR/cache
mkdir -p cache/r1
echo '{"machines": 3' >cache/r1/rates.json
"$R1" doctor --json >machine.json 2>err
grep -q 'measuring this machine' err
"$R1" doctor --json >again.json 2>err
[ ! -s err ]
python3 - <<'P'
import json
page, again, kept = (json.load(open(f)) for f in ("machine.json", "again.json", "cache/r1/rates.json"))
assert page["processor"]["threads"] >= 1 and 0 < page["memory"]["free"] <= page["memory"]["installed"]
assert page["models"]["smollm2-135m"]["score"] == "yes" and page["models"]["deepseek-v3"]["train"] == "no"
(cpu,), (disk,) = kept["machines"].values(), kept["disks"].values()
assert len(cpu["forward"]) == len(cpu["rows"]) == 6 and min(cpu["forward"] + cpu["backward_x"] + cpu["backward_w"]) > 0
for p in (page, again):
    assert abs(p["rates"]["products"] * 1e9 - cpu["forward"][-1]) < 1 and abs(p["disk"]["read"] * 1e9 - disk["read"]) < 1
P
"$R1" doctor | grep -q 'measured now'
code=0
"$R1" doctor run --machine 2>err || code=$?
[ $code = 2 ]
