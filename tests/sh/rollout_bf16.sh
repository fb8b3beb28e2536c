#!/bin/sh
# An f32 policy that samples from a bf16 copy of itself, on every instruction set of this machine: the gap between sampler and
# trainer is measured and logged, it is bf16's rounding, and where it is larger the router chose other experts (rollout_gap.py).
set -eu
export OMP_WAIT_POLICY=passive
. tests/lib.sh

for isa in $(instruction_sets); do
    # Without vectors a step costs a hundred times as much: fewer.
    few=
    [ "$isa" != plain ] || few="--set base.steps=20 --set zero.steps=2"
    # shellcheck disable=SC2086
    R1_ISA=$isa expect_exit 0 "$R1" run micro --quiet --out "$TEST_DIR/$isa" --until zero --set zero.rollout_bf16=true $few
    R1_ISA=$isa python3 tests/rollout_gap.py "$R1" "$TEST_DIR/$isa" >"$out" 2>&1 || { echo "$isa:"; cat "$out"; exit 1; }
    sed "s/^/$isa: /" "$out"
    python3 - "$TEST_DIR/$isa/metrics.jsonl" <<'END_OF_PROGRAM'
import json, sys
gaps = [m.get("routing_gap") for m in map(json.loads, open(sys.argv[1])) if m["stage"] == "zero" and m.get("gap") is not None]
assert gaps and all(g is not None and 0 <= g < 0.1 for g in gaps), gaps
END_OF_PROGRAM
done
