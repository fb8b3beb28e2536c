#!/bin/sh
# Every loss of the RL stages trains: gap 0, a KL that is measured, weights that do not depend on threads or on the head's chunk, and
# another result than each other loss.
set -eu
cd "$TEST_DIR"
run() { # OUT LOSS OPTIONS...
    out=$1 loss=$2
    shift 2
    "$R1" run micro --until zero --set base.steps=20 --set base.eval_after=false --set zero.eval_after=false --set zero.steps=3 \
        --set zero.eval_every=0 --set zero.mini_batches=2 --set zero.beta=0.01 --set zero.loss="$loss" --out "$out" "$@" >log 2>&1 ||
        { cat log; exit 1; }
    grep -o '"name": "zero"' "$out/summary.json" >/dev/null
    sed -n '/"name": "zero"/,/weights_sha256/s/.*weights_sha256": "\([0-9a-f]*\)".*/\1/p' "$out/summary.json"
}
for loss in grpo dr_grpo dapo grpo_sequence gspo cispo rloo reinforce_pp; do
    one=$(run "$loss" "$loss")
    [ "$(run "$loss-2" "$loss" --threads 1 --chunk 37)" = "$one" ] || { echo "$loss: another result with one thread"; exit 1; }
    [ "$(grep -c '"gap": 0.0,' "$loss/metrics.jsonl")" = 3 ] || { echo "$loss: a gap"; exit 1; }
    ! grep -E '"(loss|kl)": (null|NaN|Infinity)' "$loss/metrics.jsonl" || { echo "$loss: not finite"; exit 1; }
    echo "$one"
done >hashes
[ "$(sort -u hashes | wc -l)" = 8 ] || { echo "two losses give the same weights:"; cat hashes; exit 1; }
