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
assert len(results) == 14, results
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
