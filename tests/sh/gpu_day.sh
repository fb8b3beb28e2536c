#!/bin/sh
# `sh tests/gpu-day.sh --dry` goes through all its parts on the emulated device, writes its JSON and its table, and fails where a part
# fails.
set -eu
. tests/lib.sh
[ -e "$BUILD/gpu/libr1_emulated.so" ] || { echo "no C++ compiler: the emulated GPU is not built"; exit 77; }
command -v python3 >/dev/null || { echo "no python3, which writes its table"; exit 77; }
export R1_GPU_PLUGIN="$BUILD/gpu/libr1_emulated.so" BUILD R1
sh tests/gpu-day.sh --dry "$TEST_DIR/day" >"$out" 2>&1 || { cat "$out" "$TEST_DIR"/day/*.log; complain "the dry day failed"; }
python3 - "$TEST_DIR/day" <<'END'
import json, sys
day = json.load(open(sys.argv[1] + "/gpu-day.json"))
results = {p["part"]: p["result"] for p in day["parts"]}
assert len(results) == 15, results
skipped = {p for p, r in results.items() if r == "skipped"}
assert skipped == {"memcheck", "racecheck", "initcheck", "peers"}, skipped
assert day["bench"]["machine"]["emulated"] == "times mean nothing"
assert [r["name"] for r in day["bench"]["rows"]] == ["decode_tiny_f32_1"]
assert "decode_tiny_f32_1" in open(sys.argv[1] + "/gpu-day.md").read()
END
grep -q "times mean nothing" "$TEST_DIR/day/bench.log" || complain "bench does not say that its times mean nothing"

# A part that fails is seen: a device whose bits are others.
printf '#!/bin/sh\n[ "$1" != score ] || exit 1\nexec "%s" "$@"\n' "$R1" >"$TEST_DIR/r1"
chmod +x "$TEST_DIR/r1"
if R1="$TEST_DIR/r1" sh tests/gpu-day.sh --dry --only score_f32 "$TEST_DIR/bad" >"$out" 2>&1; then complain "a failed part is not seen"; fi
grep -q "score_f32 *FAILED" "$out" || complain "the failed part is not named"

# What a person may find on the day. A part that hangs is stopped, the next one runs, and both are in the files.
result() { # FOLDER PART: its result and note, of the JSON and of the table
    python3 - "$TEST_DIR/$1" "$2" <<'END'
import json, sys
part, = [p for p in json.load(open(sys.argv[1] + "/gpu-day.json"))["parts"] if p["part"] == sys.argv[2]]
assert "| %(part)s | %(result)s |" % part in open(sys.argv[1] + "/gpu-day.md").read()
print(part["result"], part["note"])
END
}
day() { # PART FOLDER [VARIABLE=VALUE...]
    part=$1 folder=$TEST_DIR/$2
    shift 2
    env "$@" sh tests/gpu-day.sh --dry --only "$part" "$folder" >"$out" 2>&1
}
printf '#!/bin/sh\n[ "$1" != score ] || exec sleep 100\nexec "%s" "$@"\n' "$R1" >"$TEST_DIR/r1"
day score_f32 slow GPU_DAY_LIMIT=1 R1="$TEST_DIR/r1" || complain "a part that was stopped counts as failed"
expect "stopped after 1 seconds" "$(result slow score_f32)"
# A row of the bench that fails costs itself alone; none at all is a failure.
printf '#!/bin/sh\n[ "$1" != bench ] || exit 1\nexec "%s" "$@"\n' "$R1" >"$TEST_DIR/r1"
if day bench none R1="$TEST_DIR/r1"; then complain "a bench without rows is no failure"; fi
expect "FAILED 0 rows; none of decode_tiny_f32_1" "$(result none bench)"
# No card that reads malloc's memory, no compute-sanitizer, no PyTorch: skipped, and said.
day ops_f32 ops R1_GPU_PLUGIN="$TEST_DIR/no.so" || complain "without a plugin the op tests fail"
case $(result ops ops_f32) in skipped*"not compared"*) ;; *) result ops ops_f32; complain "the op tests do not say that they compared nothing" ;; esac
mkdir "$TEST_DIR/bin"
printf '#!/bin/sh\nexit 1\n' >"$TEST_DIR/bin/python3"
chmod +x "$TEST_DIR/bin/python3"
if day peers peers PATH="$TEST_DIR/bin:$PATH"; then complain "no python3, and no complaint"; fi
grep -q "peers *skipped.*no PyTorch" "$out" || complain "no PyTorch is not said"
if ! command -v compute-sanitizer >/dev/null; then
    day memcheck sanitizer
    expect "skipped no compute-sanitizer" "$(result sanitizer memcheck)"
fi
# Where there is one it runs both precisions, and what it finds fails the part.
printf '#!/bin/sh\necho found\nexit 9\n' >"$TEST_DIR/bin/compute-sanitizer"
chmod +x "$TEST_DIR/bin/compute-sanitizer" && rm "$TEST_DIR/bin/python3"
if day racecheck race PATH="$TEST_DIR/bin:$PATH"; then complain "what the sanitizer finds is no failure"; fi
expect "FAILED found" "$(result race racecheck)"
