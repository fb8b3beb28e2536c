#!/bin/sh
# Ways in which a file may hold experts, read in memory and through the ring, give the same bytes: an expert across two shards, experts
# fused by transformers 5, FP8 blocks, GGUF blocks, r1's checkpoints in bf16 and f32; a NaN among them is named; and `r1 eval` and `r1 chat` of a placed model say what they say in memory.
set -eu
. tests/lib.sh
export OMP_WAIT_POLICY=passive
cd "$TEST_DIR"
python3 "$OLDPWD/tests/peers/make_v2_lite.py" lite --small --data 27 >"$out"
python3 - <<'END'
import glob, json, os, random, re, shutil
tensors = {}
for path in sorted(glob.glob("lite/*.safetensors")):
    raw = open(path, "rb").read()
    n = int.from_bytes(raw[:8], "little")
    for name, t in json.loads(raw[8:8 + n]).items():
        if name != "__metadata__":
            a, b = t["data_offsets"]
            tensors[name] = (t["dtype"], t["shape"], raw[8 + n + a:8 + n + b])
def write(folder, shards):
    os.mkdir(folder)
    for f in os.listdir("lite"):
        if "safetensors" not in f:
            shutil.copy(f"lite/{f}", folder)
    index = {}
    for k, shard in enumerate(shards):
        header, at, file = {}, 0, f"model-{k + 1:05}-of-{len(shards):05}.safetensors"
        for name, (dtype, shape, data) in shard.items():
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
            at += len(data)
            index[name] = file
        text = json.dumps(header).encode()
        with open(f"{folder}/{file}", "wb") as f:
            f.write(len(text).to_bytes(8, "little") + text + b"".join(d for _, _, d in shard.values()))
    json.dump({"metadata": {}, "weight_map": index}, open(f"{folder}/model.safetensors.index.json", "w"))
part = lambda name: re.match(r"(.*\.mlp\.experts)\.(\d+)\.(\w+)_proj\.weight", name)
up = {n: t for n, t in tensors.items() if part(n) and part(n)[3] == "up"}
write("apart", [{n: t for n, t in tensors.items() if n not in up}, up])
# The same tensors, one layer's experts after another in two parameters: gate's rows, then up's; down.
fused = {n: t for n, t in tensors.items() if not part(n)}
for layer in sorted({part(n)[1] for n in tensors if part(n)}):
    one = lambda e, kind: tensors[f"{layer}.{e}.{kind}_proj.weight"]
    E = sum(1 for n in up if n.startswith(layer + "."))
    F, C = one(0, "gate")[1]
    fused[layer + ".gate_up_proj"] = ("BF16", [E, 2 * F, C], b"".join(one(e, k)[2] for e in range(E) for k in ("gate", "up")))
    fused[layer + ".down_proj"] = ("BF16", [E, C, F], b"".join(one(e, "down")[2] for e in range(E)))
write("fused", [fused])
name = next(n for n in fused if n.endswith("gate_up_proj"))
write("fused8", [fused | {name: ("F8_E4M3", fused[name][1], fused[name][2][::2]), name + "_scale_inv": ("F32", [1], bytes(4))}])
# FP8: bytes of small numbers, one factor a block of 128 x 128.
random.seed(1)
# One number that is none: of an expert, and of what stays in memory.
def damage(folder, name, at, word):
    _, shape, data = tensors[name]
    write(folder, [tensors | {name: ("BF16", shape, data[:2 * at] + word.to_bytes(2, "little") + data[2 * at + 2:])}])
name = "model.layers.2.mlp.experts.5.up_proj.weight"
damage("nan", name, 2 * tensors[name][1][1] + 7, 0x7fc1)
damage("inf", "model.layers.1.self_attn.o_proj.weight", 9, 0xff80)
fp8 = {}
for name, t in tensors.items():
    fp8[name] = t
    if part(name):
        count = t[1][0] * t[1][1]
        fp8[name] = ("F8_E4M3", t[1], bytes(random.choice((0, 128)) + random.randrange(32, 72) for _ in range(count)))
        fp8[name + "_scale_inv"] = ("F32", [1, 1], b"\0\0\x80\x3d")
write("fp8", [fp8])
END
"$R1" export lite --format gguf --dtype q8_0 -o lite.gguf >"$out"
echo '{"ids": [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4, 3, 3, 8, 3, 2, 7, 9, 5]}' >ids
same() { # MODEL COMMAND ARGUMENT...
    model=$1
    name=$2
    shift 2
    same_placed "$R1" "$name" "$model" "$@" --threads 1
}
input=/dev/null
same fused score --ids ids --precision bf16
for model in apart fp8 lite.gguf; do
    for precision in f32 bf16; do same $model score --ids ids --precision $precision; done
done
"$R1" score lite --ids ids --threads 1 >lite.scores
expect_error 1 "gate_up_proj holds fused experts in FP8, whose scales are not read" "$R1" score fused8 --ids ids
for model in apart fused; do
    "$R1" score $model --ids ids --threads 1 >"$out"
    cmp "$out" lite.scores
done
# Checkpoints: a tensor is a run of bytes of the HDF5 file, bf16 as it was imported, f32 where 8-bit blocks were widened.
expect_exit 0 "$R1" import lite -o lite.h5
expect_exit 0 "$R1" import lite.gguf -o wide.h5
for model in lite.h5 wide.h5; do
    for precision in f32 bf16; do same $model score --ids ids --precision $precision; done
done
cp all wide.scores
"$R1" score lite.gguf --ids ids --threads 1 --precision bf16 >"$out"
cmp "$out" wide.scores
same lite.h5 generate --ids ids --max-tokens 5 --temperature 0 --json
expect_says 'read [1-9]'

# NaN and infinities are named when they are read first, with the sentence of a model in memory.
damaged() { # MODEL WORDS
    find_least "$R1" score "$1" --ids ids --threads 1
    for gb in 4 "$gb"; do
        for precision in f32 bf16; do
            expect_exit 1 "$R1" score "$1" --ids ids --threads 1 --precision $precision --memory "$gb"
            tail -n 1 "$said" | grep -qF -e "$2, no finite number" || complain "$1 --memory $gb: did not say $2"
            [ ! -s "$out" ] || complain "$1: scores were printed"
        done
    done
}
damaged nan 'nan: tensor model.layers.2.mlp.experts.5.up_proj.weight holds nan at [2, 7]'
damaged inf 'inf: tensor model.layers.1.self_attn.o_proj.weight holds -inf at [0, 9]'
same lite eval --task add --n 2 --k 1 --max-tokens 4
echo 'What is 1 + 2?' >question
input=question
same lite chat --temperature 0 --max-tokens 6

# Drafts: a module of multi-token prediction is a layer of the placed model like the others.
input=/dev/null
cat >mtp.yaml <<'END'
model: {architecture: deepseek_v3, hidden_size: 128, num_hidden_layers: 2, num_attention_heads: 2, q_lora_rank: 32, kv_lora_rank: 32,
        qk_nope_head_dim: 16, qk_rope_head_dim: 16, v_head_dim: 16, intermediate_size: 64, first_k_dense_replace: 1, n_routed_experts: 64,
        num_experts_per_tok: 4, n_group: 1, topk_group: 1, moe_intermediate_size: 128, num_nextn_predict_layers: 1,
        max_position_embeddings: 128}
tasks: [add]
rewards: {accuracy: 1}
stages:
  base: {kind: pretrain, steps: 1, batch: 1, warmup: 0, eval_after: false, mtp: {weight: 0.1}}
END
expect_exit 0 "$R1" run mtp.yaml --threads 1 --quiet --out run
expect_exit 0 "$R1" export run/base --format hf -o hf
echo '{"ids": [3, 1, 4, 1, 5, 9]}' >few
same hf generate --ids few --max-tokens 12 --temperature 0 --draft 2 --json
cp all drafted
expect_exit 0 "$R1" generate hf --ids few --max-tokens 12 --temperature 0 --json --threads 1
cmp "$out" drafted

# Adapters on a placed model: a stage that names its base, and a folder of peft's.
cat >lora.yaml <<'END'
model: {from: lite}
lora: {rank: 2, alpha: 8, targets: [attention, mlp, experts]}
tasks: [add]
rewards: {accuracy: 1}
stages:
  sft: {kind: sft, steps: 2, batch: 2, traces: 4, warmup: 0, lr: 1e-2, eval_after: false}
END
expect_exit 0 "$R1" run lora.yaml --threads 1 --quiet --out adapted
expect_exit 0 "$R1" export adapted/sft --format peft -o adapter
same adapted/sft score --ids few
sed 's/from: lite/from: lite.h5/' lora.yaml >lora5.yaml
expect_exit 0 "$R1" run lora5.yaml --threads 1 --quiet --out adapted5
same adapted5/sft score --ids few
same lite score --adapter adapter --ids few --precision bf16
expect_exit 0 "$R1" export adapted/sft --format hf --dtype bf16 -o merged
expect_exit 0 "$R1" export lite --adapter adapter --format hf --dtype bf16 -o merged.too
cat merged/*.safetensors >"$out"
cat merged.too/*.safetensors | cmp - "$out"

# Tensors that are carried along (a module of multi-token prediction that is not whole) stay in the base of a checkpoint.
python3 - <<'END'
import json, shutil
shutil.copytree("hf", "odd")
raw = open("hf/model.safetensors", "rb").read()
n = int.from_bytes(raw[:8], "little")
header, blob = {}, b""
for name, t in json.loads(raw[8:8 + n]).items():
    if name not in ("__metadata__", "model.layers.2.enorm.weight"):
        a, b = t["data_offsets"]
        header[name] = t | {"data_offsets": [len(blob), len(blob) + b - a]}
        blob += raw[8 + n + a:8 + n + b]
text = json.dumps(header).encode()
open("odd/model.safetensors", "wb").write(len(text).to_bytes(8, "little") + text + blob)
END
sed 's/from: lite/from: odd/; s/^lora:.*/train: [layers.1.self_attn]/' lora.yaml >part.yaml
echo 'tokenizer: {template: chatml}' >>part.yaml
expect_exit 0 "$R1" run part.yaml --threads 1 --quiet --out carried
[ "$(wc -c <carried/checkpoints/sft.h5)" -lt 1000000 ] || complain 'the checkpoint holds what its base has'
expect_exit 0 "$R1" export carried/sft --format hf -o back
python3 - <<'END'
import json
def tensors(path):
    raw = open(path, "rb").read()
    n = int.from_bytes(raw[:8], "little")
    return {k: raw[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]] for k, t in json.loads(raw[8:8 + n]).items() if k[0] != "_"}
before, after = tensors("odd/model.safetensors"), tensors("back/model.safetensors")
assert set(before) == set(after)
assert all((before[k] == after[k]) == ("layers.1.self_attn" not in k) for k in before), "other tensors moved, or none did"
END
