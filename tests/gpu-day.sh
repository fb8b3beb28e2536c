#!/bin/sh
# sh tests/gpu-day.sh [--dry] [--only PART] [FOLDER]: on a machine with an NVIDIA card, from the repository's root: builds, asks whether the card's
# numbers are right, then how fast they come, beside PyTorch where it is installed. At most 25 minutes; writes FOLDER/gpu-day.json,
# FOLDER/gpu-day.md (both after every part, so that a day cut short has them) and a log of every part (FOLDER: gpu-day). Exit code 1
# where a part failed. GPU_DAY_LIMIT: seconds of a part at most.
# --dry: all of it on the emulated device, shortened; what needs a card is named as skipped, and times mean nothing.
set -u
dry=
if [ "${1:-}" = --dry ]; then dry=1; shift; fi
only=
if [ "${1:-}" = --only ]; then only=$2; shift 2; fi
out=${1:-gpu-day}
R1=${R1:-./r1} BUILD=${BUILD:-build} CC=${CC:-gcc}
device=gpu
[ -z "$dry" ] || device=emulated
mkdir -p "$out"
: >"$out/parts.tsv"
: >"$out/peers.jsonl"
: >"$out/facts.txt"
: >"$out/bench.jsonl"
end=$(($(date +%s) + 1500))

table() { python3 tests/gpu_day_table.py "$out" "$device"; }
trap 'table; exit 130' INT TERM

# record NAME RESULT SECONDS NOTE
record() {
    printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >>"$out/parts.tsv"
    printf '%-16s %-8s %4s s  %s\n' "$1" "$2" "$3" "$4"
    table
}
# part NAME SECONDS FUNCTION: its last line is the note; exit code 77: skipped. What it may take ends with the 25 minutes.
part() {
    name=$1 limit=$2 start=$(date +%s)
    [ "$limit" -le "${GPU_DAY_LIMIT:-$limit}" ] || limit=$GPU_DAY_LIMIT
    [ -z "$only" ] || [ "$only" = "$name" ] || return 0
    left=$((end - start))
    if [ "$left" -le 0 ]; then record "$name" skipped 0 "the 25 minutes are over"; return; fi
    [ "$limit" -le "$left" ] || limit=$left
    code=0
    R1=$R1 BUILD=$BUILD CC=$CC out=$out device=$device dry=$dry timeout -k 5 "$limit" sh tests/gpu_day_parts.sh "$3" >"$out/$name.log" 2>&1 ||
        code=$?
    case $code in 0) result=ok ;; 77) result=skipped ;; 124 | 137) result=stopped ;; *) result=FAILED ;; esac
    [ $result != stopped ] || echo "after $limit seconds" >>"$out/$name.log"
    record "$name" $result $(($(date +%s) - start)) "$(tail -n 1 "$out/$name.log")"
}

part facts 60 facts
part build 300 build
part plan 60 plan
part ops_f32 90 ops_f32
part ops_bf16 90 ops_bf16
part golden_bf16 90 golden_bf16
part score_f32 60 score_f32
part score_widen 60 score_widen
part micro_f32 120 micro_f32
part micro_bf16 120 micro_bf16
for tool in memcheck racecheck initcheck; do part $tool 80 $tool; done
part bench 300 bench
part peers 300 peers
table && ! grep -q "	FAILED	" "$out/parts.tsv"
