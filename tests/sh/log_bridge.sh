#!/bin/sh
# r1 run --log: every line of the metrics reaches the user's Python client; the run does not depend on it.
set -eu
cd "$TEST_DIR"
mkdir client
cat >client/wandb.py <<'P'
import json
def init(project, name): open("log.jsonl", "a").write(json.dumps({"init": [project, name]}) + "\n")
def log(values): open("log.jsonl", "a").write(json.dumps(values) + "\n")
def finish(): open("log.jsonl", "a").write('"finish"\n')
P
run() { "$R1" run micro --until zero --set base.steps=20 --set base.eval_after=false --set zero.steps=3 --set zero.eval_after=false --quiet "$@"; }
PYTHONPATH=client run --out a --log wandb >/dev/null 2>&1
python3 - <<'P'
import json
sent = [json.loads(l) for l in open("log.jsonl")]
lines = [json.loads(l) for l in open("a/metrics.jsonl")]
assert sent[0] == {"init": ["r1", "a"]} and sent[-1] == "finish" and len(sent) == len(lines) + 2
zero = [l for l in lines if l["stage"] == "zero" and "reward" in l]
got = [s for s in sent[1:-1] if "zero/reward" in s]
assert [s["zero/reward"] for s in got] == [l["reward"] for l in zero] and len(zero) == 3
assert [s["zero/reward_parts/format"] for s in got] == [l["reward_parts"]["format"] for l in zero]
P

# a client that dies does not stop the run
echo 'raise_at_init = 1
def init(**k): raise SystemExit(1)' >client/trackio.py
PYTHONPATH=client run --out b --log trackio >/dev/null 2>err
grep -q 'its process has ended; the run goes on without it' err
[ "$(grep -c . a/metrics.jsonl)" = "$(grep -c . b/metrics.jsonl)" ]

code=0
run --out c --log trackio >/dev/null 2>err || code=$?
[ $code = 1 ] && grep -q 'trackio: python3 cannot import it here' err
code=0
run --out c --log mlflow >/dev/null 2>err || code=$?
[ $code = 1 ] && grep -q 'there are wandb and trackio' err
