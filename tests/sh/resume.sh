#!/bin/sh
# A run that was killed in the middle of stages, interrupted, stopped after a stage and resumed each time ends as one that was
# never stopped: weights, evaluations and metrics. A folder that is another run's, or in use, is refused.
set -eu
export OMP_WAIT_POLICY=passive
. tests/lib.sh
run=$TEST_DIR/killed
r1_run() { "$R1" run micro --threads 1 --quiet --out "$@" >"$out" 2>"$said"; }

# stop SIGNAL STAGE STEP ARGUMENT...: starts or resumes, and sends the signal a random part of a second after the step's line.
stop() {
    signal=$1 line="\"stage\": \"$2\", \"step\": $3,"
    shift 3
    "$R1" run micro --threads 1 --checkpoint-seconds 0 --quiet --out "$run" "$@" >"$out" 2>"$said" &
    child=$!
    until grep -qs "$line" "$run/metrics.jsonl"; do
        kill -0 $child 2>/dev/null || complain "the run ended before $line"
        sleep 0.01
    done
    sleep "0.0$(($(date +%N | cut -c1-2 | sed 's/^0//') % 10))"
    kill -"$signal" $child 2>/dev/null || complain "the run ended soon after $line"
    code=0
    wait $child || code=$?
}
left_over() { [ -n "$(find "$run" -name "$1.partial.h5" -o -name "$1.state.json")" ] || complain "no checkpoint of $1 to resume"; }

r1_run "$TEST_DIR/whole"

stop KILL base 20 --until base
left_over base
r1_run "$run" --until base
python3 tests/run_check.py prefix "$run" "$TEST_DIR/whole"
stop KILL zero 2
left_over zero
stop KILL rl_reason 3
left_over rl_reason
stop KILL reject_sft.samples 1
stop INT student_base 10
[ "$code" = 130 ] || complain "exit code $code after Ctrl-C"
tail -n 1 "$said" | grep -q "^r1: interrupted.* r1 run micro --out $run\$" || complain "no command to resume"
left_over student_base

# Others are refused while it is not finished, and leave it as it is.
refused() { # PATTERN ARGUMENT...
    pattern=$1
    shift
    if r1_run "$run" "$@"; then complain "not refused: $*"; fi
    grep -q "^r1: .*$pattern" "$said" || complain "did not say $pattern"
}
refused "seed is 2 here and 1 there" --set seed=2
refused "base.lr is 0.001 here and 0.003 there" --set base.lr=1e-3
refused "no stage" --until nothing
for isa in avx512bf16 avx512 avx2 plain; do echo "$isa f32 fwd 999 999 openblas"; done >"$TEST_DIR/table"
refused "another kind of machine (native-f32/v[0-9]*; here: native-f32/v[0-9]*/table-" --matmul "$TEST_DIR/table"
"$R1" run micro --threads 1 --quiet --out "$TEST_DIR/busy" --set base.steps=100000 >/dev/null 2>&1 &
child=$!
until [ -s "$TEST_DIR/busy/metrics.jsonl" ]; do sleep 0.05; done
if "$R1" run micro --quiet --out "$TEST_DIR/busy" --set base.steps=100000 >"$out" 2>"$said"; then complain "ran twice"; fi
kill -KILL $child
grep -q "in use by process $child" "$said" || complain "did not say who uses the folder"

r1_run "$run"
python3 tests/run_check.py same "$run" "$TEST_DIR/whole"
for check in files metrics; do python3 tests/run_check.py $check "$run"; done
