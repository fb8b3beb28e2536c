#!/bin/sh
# r1 bench: a row as a table and as JSON, and a table of matrix products that a run then takes.
set -eu
cd "$TEST_DIR"
"$R1" bench --quick --only decode_tiny_f32_8 >out 2>said || { cat said; exit 1; }
grep -q '^decode_tiny_f32_8 .* read' out || { cat out; exit 1; }
grep -q '^  linear_fwd ' out || { cat out; exit 1; }
"$R1" bench --quick --only train_tiny_f32_tokens_1536 --json >row.json
python3 - <<'END'
import json
b = json.load(open("row.json"))
row = b["rows"][0]
assert row["name"] == "train_tiny_f32_tokens_1536" and row["bound"] == "flop", row
assert row["tokens_per_s"] > 100 and 0 < row["percent_of_peak"] < 150 and row["seconds"] > 0, row
assert abs(row["tokens_per_s"] * row["seconds"] - 1536) < 1, row
shares = [r["share"] for r in b["rows"][1:]]
assert len(shares) > 10 and abs(sum(shares) - 1) < 0.01, shares
assert b["machine"]["peak_gflops_f32"] > 1 and b["machine"]["threads"] >= 1, b["machine"]
END
"$R1" bench --tune table --only train_tiny_f32 >out 2>said || { cat said; exit 1; }
grep -q '^f32  bwd_w *192 x *128 ' out || { cat out; exit 1; }
[ "$(grep -c ' f32 fwd ' table)" = "$(grep -c ' bf16 bwd_x ' table)" ]
[ "$(sort -u table | wc -l)" = "$(wc -l <table)" ]
"$R1" run micro --until base --quiet --out tuned --matmul table >out 2>said || { cat said; exit 1; }
