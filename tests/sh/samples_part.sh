#!/bin/sh
# A file of samples that lost its end (what a power cut leaves of what was not synced) is not filled up with zeros: the run says
# so, and goes on when the state is taken away.
set -eu
export OMP_WAIT_POLICY=passive
. tests/lib.sh
run=$TEST_DIR/run
run_it() { exec "$R1" run micro --threads 1 --quiet --out "$run" --until reject_sft --set reject_sft.sample_prompts=2048 >"$out" 2>"$said"; }

run_it &
child=$!
until grep -qs '"stage": "reject_sft.samples", "step": 2,' "$run/metrics.jsonl"; do
    kill -0 $child 2>/dev/null || complain "the run ended early"
    sleep 0.01
done
kill -INT $child
wait $child || true
part=$run/samples/reject_sft.jsonl.part
[ -s "$part" ] && [ -e "$run/samples/reject_sft.state.json" ] || complain "no state of the samples"

# Resumed, it goes on counting: general documents are a share of all samples that were kept, before the interruption too.
cp -r "$run" "$run.whole"
"$R1" run micro --threads 1 --quiet --out "$run.whole" --until reject_sft --set reject_sft.sample_prompts=2048 >"$out" 2>"$said" || complain "does not go on"
python3 - "$run.whole" <<'END'
import json, sys
kinds = [json.loads(line)["kind"] for line in open(sys.argv[1] + "/samples/reject_sft.jsonl")]
steps = [m for m in map(json.loads, open(sys.argv[1] + "/metrics.jsonl")) if m["stage"] == "reject_sft.samples"]
kept, general = kinds.count("reasoning"), kinds.count("general")
assert kept and steps[-1]["kept"] == kept, (steps[-1], kept)
assert general == round(kept / 3), (kept, general)
END
truncate -s $(($(stat -c %s "$part") / 2)) "$part"
if (run_it); then complain "went on with a file that lost its end"; fi
grep -q "reject_sft.jsonl.part.* lost" "$said" || complain "does not say what is lost"
rm "$run/samples/reject_sft.state.json"
(run_it) || complain "does not start the samples again"
python3 -c 'import json, sys; [json.loads(line) for line in open(sys.argv[1])]' "$run/samples/reject_sft.jsonl"
