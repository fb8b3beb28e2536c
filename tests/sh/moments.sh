#!/bin/sh
# optim.moments: training with moments in bf16 and 8 bits comes close to f32's loss; killed with -9, and with moments on disk, it ends
# in the same weights; a checkpoint with other moments is refused; r1 plan counts them.
set -eu
export OMP_WAIT_POLICY=passive
. tests/lib.sh
cd "$TEST_DIR"
small="--set base.eval_every=0 --set base.eval_after=false --set eval.n=2 --set eval.k=1"
# shellcheck disable=SC2086
run() { "$R1" run micro --threads 1 --quiet $small --out "$@"; }
hashes() { grep -o '"weights_sha256[^,}]*' "$1/summary.json"; }
loss() { # RUN: the mean of the last 20 steps
    sed -n 's/.*"stage": "base".*"loss": \([0-9.]*\),.*/\1/p' "$1/metrics.jsonl" | tail -n 20 | awk '{s += $1} END {print s / NR}'
}
steps="--until base --set base.steps=120"

begin() { # STEP
    # shellcheck disable=SC2086
    start_until "\"step\": $1," killed/metrics.jsonl "$R1" run micro --threads 1 --quiet $small --out killed $steps --set optim.moments=$form
}

# shellcheck disable=SC2086
{
    run f32 $steps >"$out"
    for form in bf16 8bit; do
        run $form $steps --set optim.moments=$form >"$out"
        [ "$(hashes f32)" != "$(hashes $form)" ] || complain "$form: the weights of f32"
        awk -v a="$(loss f32)" -v b="$(loss $form)" 'BEGIN {exit !(a < 3 && b < 1.02 * a && b > 0.98 * a)}' ||
            complain "$form: a loss of $(loss $form), f32: $(loss f32)"
        run disk $steps --set optim.moments=$form --state state >"$out"
        expect "$(hashes $form)" "$(hashes disk)"
        rm -rf disk
        begin 30
        end_child INT # a checkpoint is written then, or after 15 seconds of work
        [ -e killed/checkpoints/base.partial.h5 ] || complain "$form: no checkpoint"
        begin 50
        end_child KILL
        run killed $steps --set optim.moments=$form >"$out"
        expect "$(hashes $form)" "$(hashes killed)"
        rm -rf killed
    done
    begin 30
    end_child INT
    expect_error 1 "optim.moments is f32 here and 8bit there" run killed $steps --set optim.moments=f32
}
