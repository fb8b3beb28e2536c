#!/bin/sh
# What a run says beforehand that it will take is what it takes, within 5 % or 32 MB: training from a checkpoint in f32, in
# bf16, and within a budget that leaves room for few interiors of layers. The model is held once at each moment: its block
# of 115 MB a second time would not pass.
set -eu
cd "$TEST_DIR"
cat >base.yaml <<'END'
model: {architecture: llama, hidden_size: 768, num_hidden_layers: 4, num_attention_heads: 12, num_key_value_heads: 12,
        intermediate_size: 2048}
tasks: [add]
rewards: {accuracy: 1, format: 0.5}
stages:
  base: {kind: pretrain, steps: 1, batch: 8, warmup: 0, eval_after: false}
END
cat >next.yaml <<'END'
model: {from: base/base}
tasks: [add]
rewards: {accuracy: 1, format: 0.5}
stages:
  sft: {kind: sft, steps: 2, batch: 48, traces: 96, lr: 1e-4, warmup: 0, eval_after: false}
END
bad=0
check() { # NAME ARGUMENTS...: runs, and compares
    name=$1
    shift
    "$R1" run "$@" --out "$name" --threads 2 >out 2>said || { cat said; exit 1; }
    planned=$(sed -n 's/^.* peak \([0-9]*\) MB of .*/\1/p' out)
    measured=$(sed -n 's/.*peak memory \([0-9]*\) MB.*/\1/p' out) # of 2^20 bytes
    echo "$name: planned $planned MB, measured $((measured * 1048576 / 1000000)) MB"
    awk -v p="$planned" -v m="$measured" 'BEGIN { m *= 1.048576; off = p > m ? p - m : m - p
                                                  exit !(m > 200 && (off <= 32 || off <= m / 20)) }' || bad=1
}
check base base.yaml
check f32 next.yaml
check bf16 next.yaml --precision bf16
check small next.yaml --memory 0.52
grep -q '([01] of 4 layers kept)' out || { echo 'the budget did not take the interiors away:'; cat out; bad=1; }
if "$R1" run next.yaml --out none --memory 0.4 >out 2>said; then echo 'a budget of 0.4 GB was enough'; bad=1; fi
grep -q 'needs .* GB.*budget is 0.40 GB: raise --memory' said || { cat said; bad=1; }

# A limit of the process (`ulimit -v`) ends in a sentence before anything is trained.
code=0
prlimit --as=900000000 "$R1" plan tiny --threads 2 >out 2>said || code=$?
[ $code = 1 ] && [ "$(grep -c '^r1: .*--memory' said)" = 1 ] || { echo "0.9 GB of addresses: exit $code"; cat said; bad=1; }
exit $bad
