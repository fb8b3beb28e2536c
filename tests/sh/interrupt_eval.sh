#!/bin/sh
# Ctrl-C in the middle of an evaluation loses nothing, however rarely states are saved: an evaluation during a stage is done
# again by the resumed run, a finished stage is taken as it is and only evaluated again.
set -eu
export OMP_WAIT_POLICY=passive
. tests/lib.sh
run_it() { # FOLDER, replaced by r1
    exec "$R1" run micro --threads 1 --quiet --out "$1" --until base --checkpoint-seconds 3600 --set base.steps=40 \
        --set base.eval_every=25 --set eval.quick_n=6000 --set eval.n=2000 >"$out" 2>"$said"
}

# stop PATTERN: starts or resumes, and presses Ctrl-C a moment after the line: the evaluation behind it takes far longer.
stop() {
    run_it "$TEST_DIR/cut" &
    child=$!
    until grep -qs "$1" "$TEST_DIR/cut/metrics.jsonl"; do
        kill -0 $child 2>/dev/null || complain "the run ended before $1"
        sleep 0.01
    done
    sleep 0.2
    kill -INT $child || complain "the run ended soon after $1"
    code=0
    wait $child || code=$?
    [ "$code" = 130 ] || complain "exit code $code after Ctrl-C"
    grep -q "the state is saved" "$said" || complain "does not say that the state is saved"
}
count() { grep -c "$1" "$TEST_DIR/cut/metrics.jsonl" || true; }

(run_it "$TEST_DIR/whole")
stop '"step": 25,'
[ -e "$TEST_DIR/cut/checkpoints/base.partial.h5" ] || complain "25 steps are lost"
[ "$(count '"eval"')" = 0 ] || complain "the evaluation was not cut"
stop '"step": 40,'
[ -e "$TEST_DIR/cut/checkpoints/base.h5" ] || complain "the finished stage is lost"
[ "$(count '"eval"')" = 1 ] || complain "the evaluation of step 25 was not done once, or the last one was not cut"
before=$(grep '"step": 40,' "$TEST_DIR/cut/metrics.jsonl" | head -n 1)
(run_it "$TEST_DIR/cut")
[ "$(grep '"step": 40,' "$TEST_DIR/cut/metrics.jsonl" | head -n 1)" = "$before" ] || complain "the finished stage was trained again"
python3 tests/run_check.py same "$TEST_DIR/cut" "$TEST_DIR/whole"

# And in the middle of a step: what it had drawn so far (rounds of refills of groups that never have a signal) is drawn again.
refill_it() { # FOLDER, replaced by r1
    exec "$R1" run micro --threads 1 --quiet --out "$1" --until zero --checkpoint-seconds 3600 --set base.steps=2 \
        --set base.eval_every=0 --set base.eval_after=false --set zero.eval_after=false --set zero.eval_every=0 \
        --set zero.steps=2 --set zero.refill=100 --set zero.rewards=[accuracy] >"$TEST_DIR/out" 2>"$said"
}
(refill_it "$TEST_DIR/all")
refill_it "$TEST_DIR/half" &
child=$!
until grep -qs '"stage": "zero", "step": 1,' "$TEST_DIR/half/metrics.jsonl"; do
    kill -0 $child 2>/dev/null || complain "the refilling run ended"
    sleep 0.01
done
sleep 0.1
kill -INT $child || complain "the refilling run ended soon"
wait $child || true
! grep -q '"stage": "zero", "step": 2,' "$TEST_DIR/half/metrics.jsonl" || complain "the step was not cut"
(refill_it "$TEST_DIR/half")
python3 tests/run_check.py same "$TEST_DIR/half" "$TEST_DIR/all"
