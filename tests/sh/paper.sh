#!/bin/sh
# r1 paper: the list, every claim run on micro, verdicts that follow from the evaluations, units shared between claims.
set -eu
cd "$TEST_DIR"
"$R1" paper >list
[ "$(grep -c 'minutes)$' list)" -ge 11 ] && grep -q '^zero-gains' list

"$R1" paper --all --recipe micro --seeds 1 --out p --jobs 2 --set base.eval_every=0 --set zero.eval_every=0 \
    --set student_base.steps=10 >out 2>err || { tail -5 err; exit 1; }
python3 - <<'P'
import glob, json
claims = {f[2:-5]: json.load(open(f)) for f in glob.glob("p/*.json")}
assert len(claims) >= 11, sorted(claims)
mean = lambda x: sum(x) / len(x)
def values(run, unit, metric):
    return [l[metric] for l in map(json.loads, open(f"p/{run}/evals/{unit}.jsonl")) if metric in l]
c = claims["zero-consensus"]
want = mean([mean(values(f"zero-consensus.run-s{s}", "zero", "cons@k")) - mean(values(f"zero-consensus.run-s{s}", "zero", "pass@1")) for s in (1,)])
assert abs(c["tests"][0]["difference"] - want) < 1e-9, (c, want)
def window(s, last):
    v = [l["length"] for l in map(json.loads, open(f"p/zero-length.run-s{s}/metrics.jsonl")) if l["stage"] == "zero" and "reward" in l]
    return mean(v[-10:] if last else v[:10])
want = mean([window(s, True) - window(s, False) for s in (1,)])
assert abs(claims["zero-length"]["tests"][0]["difference"] - want) < 1e-9
for c in claims.values():
    assert c["verdict"] in ("reproduced", "not reproduced at this size", "not resolved"), c
    signs = [{"higher": 1, "lower": -1, "not resolved": 0}[t["verdict"]] for t in c["tests"]]
    wants = [{"higher": 1, "lower": -1}[t["expect"]] for t in c["tests"]]
    verdict = "not reproduced at this size" if any(a == -b for a, b in zip(signs, wants)) else "reproduced" if signs == wants else "not resolved"
    assert c["verdict"] == verdict, c
# base and zero of a seed are computed once for all claims that have the same
reused = sum('"reused"' in json.dumps(s) for f in glob.glob("p/*/summary.json") for s in json.load(open(f))["stages"] if s["name"] == "base")
assert reused >= 7, reused
P
! grep -qiE '<script|https?://' p/paper.html && grep -q 'id=.zero-gains' p/paper.html

code=0
"$R1" paper zero-gain 2>err || code=$?
[ $code = 1 ] && grep -q "there is no claim 'zero-gain', did you mean 'zero-gains'" err || { cat err; exit 1; }
