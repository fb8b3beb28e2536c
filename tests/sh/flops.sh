#!/bin/sh
# FLOPs as the summary tells them: of training three forwards a token, four with a reference policy, whatever the estimator of the
# KL; the teacher's sampling is counted against distillation, so that its rivals get it too.
# The exact KL is logged beside every estimator.
set -eu
export OMP_WAIT_POLICY=passive
. tests/lib.sh
for kl in k2 k3 exact; do
    expect_exit 0 "$R1" run tests/keys.yaml --quiet --until token --out "$TEST_DIR/$kl" --set token.lr=0 --set token.kl=$kl
done
expect_exit 0 "$R1" run tests/keys.yaml --quiet --until token --out "$TEST_DIR/none" --set token.lr=0 --set token.beta=0
expect_exit 0 "$R1" run tests/keys.yaml --quiet --out "$TEST_DIR/whole"
python3 - "$TEST_DIR" <<'END_OF_FILE'
import json, sys
def stages(name):
    return {s["name"]: s for s in json.load(open(f"{sys.argv[1]}/{name}/summary.json"))["stages"]}
plain, whole = stages("none"), stages("whole")
forward = plain["seeded"]["flops"] / plain["seeded"]["tokens_trained"] / 3
known = None
for kl in "k2", "k3", "exact":
    token = stages(kl)["token"]
    assert token["tokens_trained"] == plain["token"]["tokens_trained"], "the same completions"
    more = (token["flops"] - plain["token"]["flops"]) / token["tokens_trained"]
    assert abs(more / forward - 1) < 1e-9, f"{kl}: the reference costs {more / forward} forwards a token"
    lines = [json.loads(line) for line in open(f"{sys.argv[1]}/{kl}/metrics.jsonl")]
    exact = [line["kl_exact"] for line in lines if line["stage"] == "token" and "kl" in line]
    known = known or exact # with lr 0 only the router's bias moves, alike for all
    assert exact == known and min(exact) > 0, f"{kl}: {exact}, not {known}"
base = plain["base"]
assert abs(base["flops"] / (3 * forward * base["tokens_trained"]) - 1) < 1e-9, base
assert whole["distilled.samples"]["flops"] > 0, whole["distilled.samples"]
budget = whole["distilled.samples"]["flops"] + whole["distilled"]["flops"]
for rival in "distilled.rival1", "distilled.rival2":
    step = whole[rival]["flops"] / whole[rival]["steps"]
    assert abs(whole[rival]["flops"] - budget) < step, f"{rival} took {whole[rival]['flops']} of {budget}, {step} a step"
END_OF_FILE
