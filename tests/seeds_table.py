#!/usr/bin/env python3
"""seeds_table.py RUN [RUN ..]: the README's table from the summary.json of runs that differ in their seed.

A cell is the mean over runs; in brackets the lowest and the highest. Percent, except length (tokens)."""
import json
import sys


def cell(values, digits=1):
    if any(v is None for v in values):
        return "-"
    mean = sum(values) / len(values)
    spread = f" ({min(values):.{digits}f}-{max(values):.{digits}f})" if len(values) > 1 else ""
    return f"{mean:.{digits}f}{spread}"


def main():
    runs = [{s["name"]: s for s in json.load(open(f"{folder}/summary.json"))["stages"]} for folder in sys.argv[1:]]
    if not runs:
        sys.exit(__doc__)
    names = [n for n, s in runs[0].items() if "eval" in s and all(n in r for r in runs)]
    k = runs[0][names[0]]["eval"]["all"]["k"]
    families = [f for f in runs[0][names[0]]["eval"] if isinstance(runs[0][names[0]]["eval"][f], dict) and f != "all"]
    columns = ["pass@1", f"cons@{k}", "format", "language", "length"]
    print("| stage | " + " | ".join(columns + ["helpful", "safe"] + families) + " |")
    print("|---" * (len(columns) + len(families) + 3) + "|")
    for name in names:
        evals = [r[name]["eval"] for r in runs]
        row = [cell([e["all"][c] * (1 if c == "length" else 100) for e in evals]) for c in columns]
        row += [cell([e[g] * 100 if g in e else None for e in evals]) for g in ("helpful", "safe")]
        row += [cell([e[f]["pass@1"] * 100 for e in evals], 0) for f in families]
        print(f"| {name} | " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
