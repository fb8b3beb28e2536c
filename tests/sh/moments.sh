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
    # PPO's critic has such moments too, in the same checkpoint.
    ppo="--until zero --set base.steps=10 --set zero.loss=ppo --set zero.steps=4 --set zero.prompts=2 --set zero.eval_every=0"
    run ppo $ppo --set optim.moments=8bit >"$out"
    kill_when '"stage": "zero", "step": 2' ppo_killed/metrics.jsonl "$R1" run micro --threads 1 --quiet $small --out ppo_killed $ppo \
        --set optim.moments=8bit --checkpoint-seconds 0
    run ppo_killed $ppo --set optim.moments=8bit >"$out"
    expect "$(hashes ppo)" "$(hashes ppo_killed)"
    begin 30
    end_child INT
    expect_error 1 "optim.moments is f32 here and 8bit there" run killed $steps --set optim.moments=f32
}

# A GPU's kernels.
short="--until base --set base.steps=3 --set base.batch=4"
for form in bf16 8bit; do
    # shellcheck disable=SC2086
    {
        [ -e "$BUILD/gpu/libr1_emulated.so" ] || continue
        run cpu $short --set optim.moments=$form >"$out"
        R1_GPU_PLUGIN="$BUILD/gpu/libr1_emulated.so" run emulated $short --set optim.moments=$form --device emulated >"$out"
        expect "$(hashes cpu)" "$(hashes emulated)"
        rm -r cpu emulated
    }
done
