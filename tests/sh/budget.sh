#!/bin/sh
# r1 ablate --minutes: as many seeds as fit, or two with fewer steps, by what a short pilot took; the plan is kept; too little time
# is refused before any arm runs.
set -eu
cd "$TEST_DIR"

# What the plan must be, from the pilot's own metrics: seconds of a run's stages at their full length, and of their evaluations.
cat >plan.py <<'P'
import json, math, sys
out, minutes, jobs, first_own = sys.argv[1], float(sys.argv[2]), 2, int(sys.argv[3])
lines = [json.loads(l) for l in open(f"{out}/.pilot/metrics.jsonl")]
STEPS, PILOT, EVERY = {"base": 300, "zero": 8}, {"base": 20, "zero": 3}, {"base": 150, "zero": 4}
costs = []
for stage in ("base", "zero"):
    own = [l for l in lines if l["stage"] == stage]
    work = [l["seconds"] for l in own if "seconds" in l][-1]
    evaluation = sum(b["wall"] - a["wall"] for a, b in zip(own, own[1:]) if "eval" in b) * 8 / 2  # 8 problems, 2 in the pilot
    quick = STEPS[stage] // EVERY[stage] * (4 * 2) / (8 * 4)
    costs.append(work / PILOT[stage] * STEPS[stage] + evaluation * (1 + quick))
shared, own = sum(costs[:first_own]), sum(costs[first_own:])
need = lambda seeds, share: max(seeds * (shared + 2 * share * own) / jobs, shared + share * own)
seeds, share = 2, 1.0
while seeds < 10 and need(seeds + 1, 1) <= 60 * minutes: seeds += 1
while share > 0.2 and need(seeds, share) > 60 * minutes: share -= 0.01
if sys.argv[4] == "needs": print(need(2, 1) / 60, need(4, 1) / 60)
else:
    plan = json.load(open(f"{out}/plan.json"))
    assert plan["seeds"] == seeds, (plan, seeds, shared, own)
    steps = {k: max(1, math.floor(share * STEPS[k])) for k in ("base", "zero")[first_own:]} if share < 1 else {}
    got = {s.split(".")[0]: int(s.split("=")[1]) for s in plan["settings"]}
    assert got.keys() == steps.keys() and all(abs(got[k] - v) <= 0.011 * STEPS[k] + 1 for k, v in steps.items()), (plan, steps)
    print(seeds)
P

# too little: what it would take, and nothing but the pilot
code=0
"$R1" ablate micro --grid zero.lr=1e-4,2e-4 --minutes 0.01 --jobs 2 --out little >out 2>err || code=$?
[ $code = 1 ] && grep -q '2 arms under two seeds take about .* minutes (.* with a fifth of the steps): give more --minutes' err || { cat err; exit 1; }
[ -d little/.pilot ] && [ ! -e little/plan.json ] && [ ! -e little/lr=1e-4-s1 ]

# enough for about four seeds
enough=$(python3 plan.py little 0.01 1 needs | cut -d' ' -f2)
"$R1" ablate micro --grid zero.lr=1e-4,2e-4 --minutes "$enough" --jobs 2 --out enough >out 2>err || { cat err; exit 1; }
seeds=$(python3 plan.py enough "$enough" 1 plan)
grep -q "plan: 2 arms x $seeds seeds, about" err && grep -q 'what can be resolved: differences of about' err
[ "$(find enough -maxdepth 1 -name 'lr=*-s*' -type d | wc -l)" = $((2 * seeds)) ]

# again: the same plan, no pilot, nothing to run
touch -d '2001-01-01' enough/.pilot/metrics.jsonl
"$R1" ablate micro --grid zero.lr=1e-4,2e-4 --minutes 0.01 --jobs 2 --out enough >/dev/null 2>err
grep -q "plan: $seeds seeds, as enough/plan.json has it" err && grep -q "$((2 * seeds)) of $((2 * seeds)) runs are there already" err
[ "$(date -r enough/.pilot/metrics.jsonl +%Y)" = 2001 ]

# half of what two seeds need, where arms share nothing: fewer steps
half=$(python3 -c "print($(python3 plan.py little 0.01 0 needs | cut -d' ' -f1) / 2)")
"$R1" ablate micro --grid base.lr=1e-3,2e-3 --until zero --minutes "$half" --jobs 2 --out half >out 2>err || { cat err; exit 1; }
[ "$(python3 plan.py half "$half" 0 plan)" = 2 ]
grep -q 'base: .* of its 300 steps, so that two seeds fit' err
steps=$(sed -n 's/.*base: \([0-9]*\) of its 300.*/\1/p' err)
grep -q "steps: $steps\$" half/lr=1e-3-s1/recipe.yaml
