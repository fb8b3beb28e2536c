#!/bin/sh
# A checkpoint like DeepSeek-V2-Lite's as published: all 27 layers and 5,291 tensors in shards (tiny widths), bf16. It is
# inspected, imported, scored, trained for a step and exported; its first two layers alone as well.
set -eu
. tests/lib.sh
cd "$TEST_DIR"
sha() { "$R1" inspect "$1" --sha256 | grep weights_sha256; }
score() { "$R1" score "$1" --ids ids.jsonl; }

python3 "$OLDPWD/tests/peers/make_v2_lite.py" lite --small --data 27 >out
[ "$(ls lite/*.safetensors | wc -l)" -ge 3 ] || { echo 'fewer than three shards'; exit 1; }
echo '{"ids": [3, 1, 4, 1, 5, 9, 2, 6]}' >ids.jsonl
"$R1" inspect lite >out
grep -q 'in 5291 tensors' out
grep -q '5291 tensors, BF16' out

cat >step.yaml <<'END'
tasks: [add]
rewards: {accuracy: 1, format: 0.5}
stages:
  step: {kind: sft, steps: 1, batch: 2, traces: 2, lr: 1e-3, warmup: 0, eval_after: false}
END
for layers in 27 2; do
    "$R1" import lite --layers $layers -o $layers.h5 >out
    if [ $layers = 27 ]; then expect "$(sha lite)" "$(sha 27.h5)"; fi
    "$R1" run step.yaml --set model.from=$layers.h5 --out run$layers --threads 1 --quiet >out 2>said || { cat said; exit 1; }
    before=$(score $layers.h5) want=$(score run$layers/step)
    if [ "$before" = "$want" ]; then echo "$layers layers: the step changed nothing"; exit 1; fi
    "$R1" export run$layers/step --format hf -o hf$layers >out
    "$R1" export run$layers/step --format gguf -o $layers.gguf >out
    for back in hf$layers $layers.gguf; do expect "$want" "$(score $back)"; done
    for model in $layers.gguf run$layers/step; do
        expect "$(echo '"Hi <eos>"' | "$R1" tokenize lite)" "$(echo '"Hi <eos>"' | "$R1" tokenize $model)"
    done
    for f in generation_config.json tokenizer.json tokenizer_config.json; do cmp lite/$f hf$layers/$f; done
done
