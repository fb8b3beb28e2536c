#!/bin/sh
# Every file that a run puts in its place is synced before it gets its name, and its folder after; the samples drawn so far are
# synced before the state that counts them.
set -eu
export OMP_WAIT_POLICY=passive
. tests/lib.sh
${CC:-cc} -D_GNU_SOURCE -O1 -fPIC -shared -o "$TEST_DIR/order.so" tests/fsync_order.c
go() { # SECONDS STAGE MORE...
    seconds=$1 last=$2
    shift 2
    expect_exit 0 "$@" "$R1" run micro --threads 1 --quiet --checkpoint-seconds "$seconds" --until "$last" --set "stages=[base, reject_sft]" \
        --set reject_sft.sample_from=base --set reject_sft.from=base --out "$TEST_DIR/run"
}
go 300 base env
go 0 reject_sft env LD_PRELOAD="$TEST_DIR/order.so" SYNC_LOG="$TEST_DIR/log"
python3 - "$TEST_DIR/log" h5 json jsonl state.json <<'END_OF_FILE'
import os, sys
lines = [line.rstrip("\n").split("\t") for line in open(sys.argv[1])]
named, bad, last_state = {}, [], 0
real = os.path.realpath
for i, (what, a, b) in enumerate(lines):
    if what != "rename":
        continue
    kind = os.path.basename(b).split(".", 1)[1]
    named[kind] = named.get(kind, 0) + 1
    synced = {real(l[1]) for l in lines[:i] if l[0] == "sync"}
    if real(a) not in synced:
        bad.append(f"{b} got its name before its content was synced")
    if i + 1 == len(lines) or lines[i + 1][:2] != ["sync", real(os.path.dirname(b))]:
        bad.append(f"the folder of {b} was not synced behind its rename")
    if kind == "state.json" and "/samples/" in b:
        since = lines[last_state:i]
        last_state = i
        if not any(l[0] == "sync" and l[1].endswith(".jsonl.part") for l in since):
            bad.append(f"{b} counts samples that were not synced")
print(named)
for kind in sys.argv[2:]:
    if kind not in named:
        bad.append(f"no file *.{kind} was renamed: the run wrote none, or not so")
print("\n".join(bad))
sys.exit(bool(bad))
END_OF_FILE
