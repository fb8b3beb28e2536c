#!/bin/sh
# `r1 run --state DIR`: moments on disk give the weights of moments in memory, in every kind of stage and in bf16; a run killed with
# -9 goes on at its last step; a full disk, a failing write, a changed byte, another run's folder are one sentence each.
set -eu
export OMP_WAIT_POLICY=passive
. tests/lib.sh
small="--until rl_reason --set base.steps=16 --set base.eval_every=0 --set zero.steps=3 --set zero.eval_every=0 --set cold_start.traces=24
--set rl_reason.steps=3 --set eval.n=2 --set eval.k=1"
# shellcheck disable=SC2086
run() { "$R1" run micro --threads 1 $small --out "$@"; }
hashes() { python3 -c 'import json, sys; [print(s["name"], s["weights_sha256"]) for s in json.load(open(sys.argv[1] + "/summary.json"))["stages"]]' "$1"; }
same() { # RUN RUN: as far as the second went
    hashes "$2" >"$TEST_DIR/b"
    hashes "$1" | sed -n "1,$(wc -l <"$TEST_DIR/b")p" >"$TEST_DIR/a"
    [ -s "$TEST_DIR/a" ] && cmp "$TEST_DIR/a" "$TEST_DIR/b" || complain "other weights in $2"
}
dir=$TEST_DIR/state

run "$TEST_DIR/memory" --quiet >"$out" 2>"$said"
run "$TEST_DIR/disk" --state "$dir" >"$out" 2>"$said"
expect_says "base: state in .*, 0.00303 GB; an update writes 0.00152 GB, so a drive of 600 TBW bears 3.96e+08 updates"
same "$TEST_DIR/memory" "$TEST_DIR/disk"
[ -z "$(ls "$dir")" ] || complain "a finished run left its state: $(ls "$dir")"

# begin STAGE STEP: starts or resumes, and waits for that step's line.
begin() {
    # shellcheck disable=SC2086
    ${3:-start_until} "\"stage\": \"$1\", \"step\": $2," "$TEST_DIR/killed/metrics.jsonl" \
        "$R1" run micro --threads 1 $small --quiet --out "$TEST_DIR/killed" --state "$dir"
}
# Killed ten times: after a while that no clock of the test decides.
for at in "base 1" "base 2" "base 6" "base 9" "base 13" "base 16" "zero 1" "zero 2" "rl_reason 1" "rl_reason 2"; do
    # shellcheck disable=SC2086
    begin $at kill_after
done
run "$TEST_DIR/killed" --state "$dir" --quiet >"$out" 2>"$said"
same "$TEST_DIR/memory" "$TEST_DIR/killed"

# A state to try things on (in memory where that is possible, which spares the waiting for a disk): interrupted, so that the
# generation before the last is whole too.
rm -rf "$TEST_DIR/killed"
shm=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d -p "$TEST_DIR")
trap 'umount "$TEST_DIR/mount" 2>/dev/null; rm -rf "$shm"' EXIT
dir=$shm/state
begin base 5
end_child INT
expect_says "r1: interrupted; the state is saved. Go on with: r1 run .* --out .*/killed --state $dir\$"
cp -r "$dir" "$TEST_DIR/kept"
cp -r "$TEST_DIR/killed" "$TEST_DIR/kept_run"
back() { rm -rf "$dir" "$TEST_DIR/killed" && cp -r "$TEST_DIR/kept" "$dir" && cp -r "$TEST_DIR/kept_run" "$TEST_DIR/killed"; }
ends() { # PATTERN: it goes on, says that, and ends in the weights of the others
    run "$TEST_DIR/killed" --until base --state "$dir" >"$out" 2>"$said" || complain "did not go on"
    expect_says "$1"
    same "$TEST_DIR/memory" "$TEST_DIR/killed"
}
flip() { # MANIFEST: a byte of what it says of the last record
    python3 - "$dir/$1" "$dir/base.records" <<'END'
import json, sys
at = json.load(open(sys.argv[1]))["state"]["records"][-1]["at"]
with open(sys.argv[2], "r+b") as f:
    f.seek(at + 77)
    byte = f.read(1)[0]
    f.seek(at + 77)
    f.write(bytes([byte ^ 16]))
END
}

expect_exit 1 run "$TEST_DIR/killed" --quiet
expect_says "base was begun with --state $dir: give the same folder"
expect_exit 1 run "$TEST_DIR/killed" --quiet --state "$TEST_DIR/elsewhere"
expect_says "base was begun with --state $dir: give the same folder"
expect_exit 1 run "$TEST_DIR/other" --quiet --state "$dir"
expect_says "base.json is the state of another run; choose another folder"
expect_exit 1 run "$TEST_DIR/killed" --quiet --state "$dir" --other-machine --set precision=bf16

flip base.json
ends "the weights of the final norm and the head are not what was written: .*; going on from the generation before"
back
truncate -s 1000 "$dir/base.json"
ends "resuming"
back
flip base.json
flip base.previous.json
expect_exit 1 run "$TEST_DIR/killed" --quiet --state "$dir"
expect_says "the final norm and the head are not what was written: .*; the generation before it is not whole either"
back
truncate -s 100000 "$dir/base.records"
expect_exit 1 run "$TEST_DIR/killed" --quiet --state "$dir"
expect_says "are not what was written: .*; the generation before it is not whole either"

# No room at the start; a write that fails later.
expect_exit 1 sh -c "ulimit -f 1000; exec $R1 run micro --threads 1 --quiet --state $dir/full --out $TEST_DIR/full"
expect_says "cannot write .*/full/base.records: File too large"
[ ! -e "$dir/full/base.records" ] || complain "left what could not be reserved"
if mkdir "$TEST_DIR/mount" && mount -t tmpfs -o size=2m none "$TEST_DIR/mount" 2>/dev/null; then
    expect_exit 1 run "$TEST_DIR/no_room" --quiet --state "$TEST_DIR/mount"
    expect_says "base.records needs 0.00303 GB, and 0.00[0-9]* GB are free there"
fi
back
begin base 8
prlimit --pid "$child" --fsize=1000000
wait "$child" && complain "the failed write was not seen"
expect_says "cannot write .*base.records: File too large; raise the limit on file size"
ends "resuming"

# Weights in split rows.
expect_exit 0 run "$TEST_DIR/bf16" --quiet --set precision=bf16 --until base
expect_exit 0 run "$TEST_DIR/bf16_disk" --quiet --set precision=bf16 --until base --state "$dir"
same "$TEST_DIR/bf16" "$TEST_DIR/bf16_disk"
