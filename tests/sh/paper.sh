#!/bin/sh
# r1 paper: the list, every claim run on micro, verdicts that follow from the evaluations, units shared between claims.
set -eu
cd "$TEST_DIR"
"$R1" paper >list
[ "$(grep -c 'minutes)$' list)" -ge 11 ] && grep -q '^zero-gains' list

# Stages that two of them add are made short; all others together, as `r1 paper --all` runs them.
claims=$(sed -n 's/^\([a-z0-9-]*\)  (about .*/\1/p' list | grep -v -e '^rl-after-distill$' -e '^yarn-needle$' -e '^offload$' | paste -sd, -)
for one in "$claims" 'rl-after-distill --set student_rl.steps=4' 'yarn-needle --set look.traces=64 --set longer.traces=32'; do
    # shellcheck disable=SC2086
    "$R1" paper $one --recipe micro --seeds 1 --out p --jobs 2 --set base.eval_every=0 --set zero.eval_every=0 \
        --set student_base.steps=10 >out 2>err || { tail -5 err; exit 1; }
done
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
assert claims["zero-length"]["tests"][0]["verdict"] == "not resolved"
for c in claims.values():
    assert c["verdict"] in ("reproduced", "not reproduced at this size", "not resolved"), c
    other = {"higher": "lower", "lower": "higher", "equal": "different"}
    verdicts, wants = [t["verdict"] for t in c["tests"]], [t["expect"] for t in c["tests"]]
    verdict = "not reproduced at this size" if any(v == other.get(w) for v, w in zip(verdicts, wants)) else "reproduced" if all(v in (w, "shown") for v, w in zip(verdicts, wants)) else "not resolved"
    assert c["verdict"] == verdict, c
    for t in c["tests"]:
        assert abs(t["b_mean"] - t["a_mean"] - t["difference"]) < 1e-9, t
    for t in c["tests"]:  # equality is the interval's, all of it inside or outside of what is allowed
        if t["expect"] != "equal": continue
        low, high, within = *t["ci95"], t["within"]
        inside, outside = low >= -within and high <= within, low > within or high < -within or within == 0
        assert t["verdict"] == ("equal" if inside else "different" if outside else "not resolved"), t
# further evaluations of one checkpoint, on the problems of the run's own
own, none = (values("few-shot-hurts.run-s1", u, "pass@1") for u in ("rl_reason", "rl_reason.none"))
assert own == none and len(own) == 8, (own, none)
one = values("few-shot-hurts.run-s1", "rl_reason.one", "pass@1")
assert abs(claims["few-shot-hurts"]["tests"][0]["difference"] - (mean(one) - mean(none))) < 1e-9
again = values("self-correction.run-s1", "rl_reason.again", "refined@1")
assert abs(claims["self-correction"]["tests"][0]["difference"] - (mean(again) - mean(own))) < 1e-9
assert len(values("vote-beats-likelihood.run-s1", "rl_reason.best", "best")) == 8
# base and zero of a seed are computed once for all claims that have the same
reused = sum('"reused"' in json.dumps(s) for f in glob.glob("p/*/summary.json") for s in json.load(open(f))["stages"] if s["name"] == "base")
assert reused >= 7, reused
P
# run options: one model exported for all arms, nothing linked from one arm to the other, experts read from disk, the same bits
"$R1" paper offload --seeds 1 --out o --jobs 1 >out 2>err || { tail -5 err; exit 1; }
python3 - <<'P'
import json, os
c = json.load(open("o/offload.json"))
assert c["verdict"] == "reproduced" and [t["verdict"] for t in c["tests"]] == 3 * ["equal"] + 2 * ["shown"], c
assert [t["expect"] for t in c["tests"]][3:] == 2 * ["nothing"]
hashes = set()
for arm in ("memory", "experts-on-disk", "moments-on-disk"):
    stages = json.load(open(f"o/offload.{arm}-s1/summary.json"))["stages"]
    assert not any("reused" in s for s in stages), arm
    hashes.add(tuple(s["weights_sha256"] for s in stages))
    read = any("disk" in json.loads(l) for l in open(f"o/offload.{arm}-s1/metrics.jsonl"))
    assert read == (arm == "experts-on-disk"), arm
assert len(hashes) == 1 and len(set(hashes.pop())) == 2, hashes  # both stages trained something
assert os.path.isdir("o/offload.moments-on-disk-s1.state") and not os.path.exists("o/offload.memory-s1.state")
P
! grep -qiE '<script|https?://' p/paper.html && grep -q 'id=.zero-gains' p/paper.html

code=0
"$R1" paper zero-gain 2>err || code=$?
[ $code = 1 ] && grep -q "there is no claim 'zero-gain', did you mean 'zero-gains'" err || { cat err; exit 1; }
code=0
"$R1" paper zero-gains,zero-gains 2>err || code=$?
[ $code = 1 ] && grep -q "there is no claim 'zero-gains' beside the others named" err || { cat err; exit 1; }
