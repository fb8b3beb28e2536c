#!/bin/sh
# A finished run trained longer: the weights of as many steps at once, where that means the same; a sentence where it does not.
set -eu
cd "$TEST_DIR"
cat >r.yaml <<'END'
extends: micro
stages:
  - {name: base, steps: 4, schedule: constant, warmup: 0, general_share: 0, eval_every: 0, eval_after: false}
  - {name: zero, steps: 2, schedule: constant, warmup: 0, prompts: 2, group: 4, max_tokens: 12, lr: 1e-3, temperature: 2, eval_every: 0,
     eval_after: false, rollout_block: 3, beta: 0.01, reference_reset: 3, rewards: [length]}
END
sha() { sed -n 's/.*"name": "\([^"]*\)".*/\1/p; s/.*"weights_sha256": "\([^"]*\)".*/\1/p' "$1/summary.json"; }
complain() { echo "$*"; cat said; exit 1; }
run() { "$R1" run r.yaml --quiet --threads 1 "$@" >out 2>said || complain "run $*: exit $?"; }
refused() { # WORDS OPTIONS...
    words=$1
    shift
    code=0
    "$R1" run r.yaml --quiet --threads 1 "$@" >out 2>said || code=$?
    [ $code = 1 ] || complain "run $*: exit $code"
    grep -q -- "$words" said || complain "run $*: does not say \"$words\""
}

# The first stage alone, twice longer, then the second: as at once.
run --out whole --set base.steps=9 --set zero.steps=5
run --out part --until base
run --out part --until base --set base.steps=7
grep -q 'base goes on' said || complain "says nothing"
run --out part --until base --set base.steps=9
run --out part --set base.steps=9
cp -r part short
run --out part --set base.steps=9 --set zero.steps=5
[ "$(sha whole)" = "$(sha part)" ] || complain "other weights: $(sha whole) $(sha part)"
[ "$("$R1" inspect whole --stage zero --step 4 --json | sha256sum)" = "$("$R1" inspect part --stage zero --step 4 --json | sha256sum)" ] ||
    complain "other rollouts"
grep -c '"stage": "zero"' part/metrics.jsonl | grep -qx 5 || complain "metrics: $(grep -c '"stage": "zero"' part/metrics.jsonl) steps"

# Killed while it goes on, wherever that is: still the same.
cp -r short once
run --out once --set base.steps=9 --set zero.steps=60
run --out short --set base.steps=9
set -- --out short --checkpoint-seconds 0 --set base.steps=9 --set zero.steps=60
for seconds in 0.2 0.5; do
    timeout -s KILL $seconds "$R1" run r.yaml --quiet --threads 1 "$@" >out 2>said || true
done
run "$@"
[ "$(sha once)" = "$(sha short)" ] || complain "other weights after a kill"

# What cannot be: a stage with another after it, fewer steps, another key, schedules and keys that count from the end.
refused "base cannot be trained longer in part: zero came after it.*from: part/base" --out part --set base.steps=12 --set zero.steps=5
refused "zero.steps is 4 here and 5 there" --out part --set base.steps=9 --set zero.steps=4
refused "holds another recipe: stages.base.steps is 12 here and 9 there; stages.base.lr is" --out part --set base.steps=12 --set zero.steps=5 --set base.lr=1e-5
for key in schedule=cosine schedule=linear schedule=step warmup=3; do
    set -- --until base --set base.$key
    rm -rf other
    run --out other "$@"
    refused 'base.steps is 6 here and 4 there; stage base cannot be trained longer: .*its' --out other "$@" --set base.steps=6
    [ ! -e other/checkpoints/base.partial.h5 ] || complain "$key: a state is kept for nothing"
done
rm part/checkpoints/zero.partial.h5
refused "zero cannot go on: its last state is gone" --out part --set base.steps=9 --set zero.steps=6
