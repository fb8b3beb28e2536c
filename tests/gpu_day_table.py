"""gpu_day_table.py FOLDER DEVICE: what tests/gpu-day.sh left in FOLDER as one JSON (gpu-day.json) and one table (gpu-day.md)."""
import datetime
import json
import os
import sys

folder, device = sys.argv[1:]


def lines(name):
    with open(os.path.join(folder, name)) as f:
        return [line.rstrip("\n") for line in f]


parts = [dict(zip(("part", "result", "seconds", "note"), line.split("\t"))) for line in lines("parts.tsv")]
peers = {p["name"]: p for p in map(json.loads, lines("peers.jsonl"))}
runs = [json.loads(line) for line in lines("bench.jsonl")]
bench = dict(runs[0], rows=[row for run in runs for row in run["rows"]]) if runs else None
facts = [line for line in lines("facts.txt") if line]
day = dict(date=datetime.date.today().isoformat(), device=device, facts=facts, parts=parts, bench=bench, peers=list(peers.values()))
with open(os.path.join(folder, "gpu-day.json"), "w") as f:
    json.dump(day, f, indent=1)

text = ["# %s, %s" % (facts[-1] if facts else device, day["date"]), ""]
if device != "gpu":
    text += ["**Emulated: the device is this processor; times mean nothing.**", ""]
text += ["| part | result | seconds | |", "|---|---|---|---|"]
text += ["| %(part)s | %(result)s | %(seconds)s | %(note)s |" % p for p in parts]
if bench:
    m = bench["machine"]
    text += ["", "Peaks: %.1f TFLOP/s f32, %.1f bf16, %.0f GB/s read, %.0f GB/s update. %s" % (
        m["peak_gflops_f32"] / 1e3, m["peak_gflops_bf16"] / 1e3, m["read_gb_per_s"], m["copy_gb_per_s"], m["backend"]), "",
        "| row | seconds | tokens/s | % of peak | bound | PyTorch seconds | times PyTorch |", "|---|---|---|---|---|---|---|"]
    for r in bench["rows"]:
        if "share" in r:
            continue
        p = peers.get(r["name"])
        text.append("| %s | %.4f | %s | %.1f | %s | %s | %s |" % (
            r["name"], r["seconds"], "%.0f" % r["tokens_per_s"] if r["tokens_per_s"] else "-", r["percent_of_peak"], r["bound"],
            "%.4f" % p["seconds"] if p else "-", "%.2f" % (p["seconds"] / r["seconds"]) if p else "-"))
with open(os.path.join(folder, "gpu-day.md"), "w") as f:
    f.write("\n".join(text) + "\n")
