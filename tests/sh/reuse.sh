#!/bin/sh
# r1 run --reuse: units of equal identity are linked, the others computed, and the weights are those of a run that computed all.
set -eu
cd "$TEST_DIR"

hashes() { grep -o '"weights_sha256": "[0-9a-f]*"' "$1/summary.json"; }
reused() { grep -c '"reused"' "$1/summary.json" || true; }
units() { grep -c '"identity"' "$1/summary.json"; }

"$R1" run micro --out runs/a --until rl_all --quiet >/dev/null 2>&1
"$R1" run micro --out runs/b --until rl_all --set rl_reason.rewards.language=0 --reuse runs >b.out 2>b.err
"$R1" run micro --out alone --until rl_all --set rl_reason.rewards.language=0 --quiet >/dev/null 2>&1

# three prefixes shared, everything after the changed stage computed, all weights as without
[ "$(reused runs/b)" = 3 ] || { echo "expected 3 reused units, got $(reused runs/b)"; cat b.err; exit 1; }
[ "$(units runs/b)" = 9 ] || { echo "expected 9 identities, got $(units runs/b)"; exit 1; }
hashes runs/b >b.hashes
hashes alone >alone.hashes
cmp b.hashes alone.hashes
grep -q 'base: reused from runs/a' b.err
grep -q "rl_reason: computed, for runs/a has 'language, weight: 0.5' where this run has 'language, weight: 0'" b.err

# links, not copies; rollouts, metrics, evaluations and samples come along
[ "$(stat -c %h runs/b/checkpoints/zero.h5)" = 2 ]
[ "$(stat -c %h runs/b/rollouts/zero-000000.h5)" = 2 ]
[ -f runs/b/rollouts.h5 ] && "$R1" inspect runs/b --stage zero --step 3 --prompt 1 >/dev/null
cmp runs/a/evals/zero.jsonl runs/b/evals/zero.jsonl
for stage in base zero cold_start; do
    [ "$(grep -c "\"stage\": \"$stage\"" runs/a/metrics.jsonl)" = "$(grep -c "\"stage\": \"$stage\"" runs/b/metrics.jsonl)" ]
    [ "$(grep -c "\"stage\": \"$stage\"" runs/a/samples.jsonl)" = "$(grep -c "\"stage\": \"$stage\"" runs/b/samples.jsonl)" ]
done

# what a stage does not read is no part of its identity; what it reads is
"$R1" run micro --out runs/c --until cold_start --set rl_all.lr=1e-4 --set title=other --reuse runs --quiet >/dev/null 2>&1
[ "$(reused runs/c)" = 3 ]
"$R1" run micro --out runs/d --until cold_start --set seed=2 --reuse runs --quiet >/dev/null 2>&1
[ "$(reused runs/d)" = 0 ]
"$R1" run micro --out runs/e --until cold_start --set cold_start.traces=95 --reuse runs --quiet >/dev/null 2>&1
[ "$(reused runs/e)" = 2 ]

# positions are no weights, and yet a model of other positions is another one (YaRN extends them)
"$R1" run micro --out runs/f --until cold_start --set model.max_position_embeddings=300 --reuse runs --quiet >/dev/null 2>&1
[ "$(reused runs/f)" = 0 ]

# two at once: the second waits for the units that the first is computing
"$R1" run micro --out both/a --until cold_start --reuse both --quiet >/dev/null 2>&1 &
first=$!
while [ ! -d both/.claims ]; do sleep 0.05; done
"$R1" run micro --out both/b --until cold_start --reuse both --quiet >/dev/null 2>both.err
wait $first
[ "$(($(reused both/a) + $(reused both/b)))" = 3 ] || { echo "computed twice"; cat both.err; exit 1; }

# a reused run can be resumed, and refuses nothing of its own
"$R1" run micro --out runs/b --until rl_all --set rl_reason.rewards.language=0 --quiet >/dev/null 2>&1
hashes runs/b | cmp - b.hashes

if "$R1" run micro --out x --reuse nowhere --quiet >/dev/null 2>err; then exit 1; fi
grep -q -- '--reuse nowhere: it is no folder' err

# --only: a stage with what it depends on, in the weights of a whole run
"$R1" run micro --only rl_all --set rl_reason.rewards.language=0 --out only --reuse runs --quiet >/dev/null 2>&1
hashes only >only.hashes
[ "$(grep -c . only.hashes)" = 7 ] && tail -n 1 b.hashes | cmp - "$(tail -n 1 only.hashes >last; echo last)"
if "$R1" run micro --only rl_all,nowhere --out y --quiet >/dev/null 2>err; then exit 1; fi
grep -q -- '--only nowhere: the recipe has no stage of that name' err
