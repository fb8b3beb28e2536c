# Scores every named warning on planted faults: short runs with one known fault each, and as many without.
#   python3 tests/doctor/score.py ./r1 FOLDER [SEEDS]
# Prints a table: precision (of the runs in which a warning fired, those with its fault), recall (of the runs with the fault, those in
# which it fired), the median step at which it fired, and its lead: the steps that the run still had before it (stopping then saves
# them). A fault may rightly raise other warnings too (a policy that learns nothing is flat): those, listed in ALSO, count neither
# for nor against.
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

STEPS = 60
COMMON = ["base.eval_after=false", "base.eval_every=0", "zero.eval_after=false", "zero.eval_every=0", f"zero.steps={STEPS}", "zero.refill=0",
          "zero.lr=2e-4"]
FAULTS = {  # warning: settings that bring it about
    "zero-gradient": ["zero.rewards={accuracy: 1}", "zero.tasks=[{name: hard, task: sort, levels: 9}]"],
    "all-truncated": ["zero.max_tokens=2"],
    "entropy-collapse": ["zero.lr=2e-3", "zero.rewards={accuracy: 0, length: 3}"],
    "format-without-accuracy": ["zero.rewards={format: 1, accuracy: 0}", "zero.lr=1e-3"],
    "thinking-vanishes": ["zero.rewards={accuracy: 1, length: 3}", "zero.lr=1e-3"],
    "language-drifts": ["zero.rewards={accuracy: 1, format: 3, language: -2}", "zero.lr=1e-3"],  # format: no way out by not thinking
    "stale-reference": ["zero.beta=1e-4", "zero.reference_reset=0", "zero.lr=3e-3"],
    "training-flat": ["zero.lr=0"],
}
ALSO = {
    "zero-gradient": {"training-flat"},
    "all-truncated": {"training-flat", "zero-gradient"},
    "entropy-collapse": {"zero-gradient", "training-flat", "thinking-vanishes", "language-drifts", "format-without-accuracy"},
    "format-without-accuracy": {"training-flat", "zero-gradient", "entropy-collapse"},
    "thinking-vanishes": {"training-flat", "zero-gradient", "entropy-collapse"},
    "language-drifts": {"training-flat", "format-without-accuracy", "entropy-collapse", "zero-gradient"},
    "stale-reference": {"training-flat", "zero-gradient", "entropy-collapse", "format-without-accuracy", "language-drifts"},
    "training-flat": set(),
}
RM = ["base.general_share=0.7", "base.steps=600", "reject_sft.general_ratio=3", "rl_all.steps=60", "rl_all.eval_after=false", "rl_all.eval_every=0", "rl_all.general_share=1", "rl_all.preference_last=1",
      "rl_all.rewards={helpful_rm: 4}", "reject_sft.eval_after=false", "cold_start.eval_after=false", "rl_reason.eval_after=false"]


def run(r1, folder, reuse, seed, settings, until):
    command = [r1, "run", "micro", "--out", folder, "--until", until, "--quiet", "--threads", "1", "--reuse", reuse, "--set", f"seed={seed}"]
    for s in settings:
        command += ["--set", s]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    report = json.loads(subprocess.run([r1, "doctor", folder, "--json"], check=True, capture_output=True, text=True).stdout)
    return {w["name"]: w["step"] for w in reversed(report["warnings"]) if w["stage"] == until}


def main():
    r1, out = sys.argv[1], sys.argv[2]
    seeds = int(sys.argv[3]) if len(sys.argv) > 3 else 4
    jobs = []
    for s in range(1, seeds + 1):
        for fault, settings in FAULTS.items():
            jobs.append((fault, s, COMMON + settings, "zero"))
    for s in range(1, len(jobs) + 1):
        jobs.append((None, s, COMMON + ["zero.lr=5e-4"], "zero"))  # at 2e-4 accuracy stands still after some 15 steps
    for s in range(1, seeds + 1):  # with reward models: half of the labels flipped, or none
        jobs.append(("rm-vs-oracle", s, COMMON + RM + ["reward_models.noise=0.5", "rl_all.lr=2e-3"], "rl_all"))
        jobs.append((None, s, COMMON + RM + ["reward_models.noise=0", "reward_models.pairs=400"], "rl_all"))
    os.makedirs(out, exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda j: run(r1, f"{out}/{j[0]}-{j[3]}-{j[1]}", out, j[1], j[2], j[3]), jobs))
    steps = STEPS
    faulty = sum(j[0] is not None for j in jobs)
    print(f"{faulty} runs with a planted fault, {len(jobs) - faulty} without, {steps} steps each\n")
    print("| warning | runs with its fault | fired in | precision | recall | median step | lead, steps |\n|---|---|---|---|---|---|---|")
    for w in list(FAULTS) + ["rm-vs-oracle"]:
        mine = [(j, r) for j, r in zip(jobs, results) if j[0] == w]
        hits = [r[w] for j, r in mine if w in r]
        false = [j for j, r in zip(jobs, results) if j[0] != w and w in r and w not in ALSO.get(j[0], set())]
        fired = len(hits) + len(false)
        precision = f"{len(hits) / fired:.2f}" if fired else "-"
        median = statistics.median(hits) if hits else float("nan")
        print(f"| {w} | {len(mine)} | {fired} | {precision} | {len(hits) / len(mine):.2f} | {median:.0f} | {steps - median:.0f} |")
        if false:
            print(f"  false: {sorted({str(j[0]) for j in false})}", file=sys.stderr)


main()
