"""Looks at run folders for the shell tests: python3 tests/run_check.py COMMAND ARGUMENT... (exit code 1 and why)."""
import json
import os
import sys

TIMES = {"seconds", "tokens_per_s", "wall", "time"}
ALWAYS = {"stage", "step", "wall"}
STEP = {"seconds", "tokens_per_s", "tokens_trained", "tokens_sampled"}
RL = {"reward", "reward_parts", "pass@1", "zero_groups", "truncated", "length", "length_correct", "length_wrong", "format",
      "language", "entropy", "kl", "kl_exact", "clip_low", "clip_high", "gap", "grad_norm", "loss", "lr", "time", "occupancy",
      "oracle", "reasons", "refills"}
ENTRY = {"name", "steps", "seconds", "tokens_trained", "tokens_sampled"}


def read_json(run, name):
    with open(os.path.join(run, name)) as f:
        return json.load(f)


def lines(run):
    with open(os.path.join(run, "metrics.jsonl")) as f:
        return [json.loads(line) for line in f]


def hashes(run):
    return {s["name"]: s.get("weights_sha256") for s in read_json(run, "summary.json")["stages"]}


def step_lines(run):
    return [m for m in lines(run) if "eval" not in m and "warning" not in m]


def import_h5py():
    try:
        import h5py
        return h5py
    except ModuleNotFoundError:  # another Python stands before the system's
        assert sys.executable != "/usr/bin/python3", "python3-h5py is missing"
        os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])


def files(run):
    """Every file of a finished run is there and opens."""
    h5py = import_h5py()
    there = set(os.listdir(run))
    for name in "recipe.yaml", "metrics.jsonl", "checkpoints", "rollouts.h5", "summary.json", "report.html":
        assert name in there, f"{run} has no {name}"
    assert any(n.startswith("events.out.tfevents.") for n in there), "no TensorBoard events"
    checkpoints = set(os.listdir(os.path.join(run, "checkpoints")))
    assert not [n for n in checkpoints if "partial" in n or ".tmp" in n], f"left over: {checkpoints}"
    models = [name for name, sha in hashes(run).items() if sha]
    assert checkpoints == {name + ".h5" for name in models}, f"{checkpoints} are not the models of {models}"
    for name in checkpoints:
        with h5py.File(os.path.join(run, "checkpoints", name)) as f:
            assert {"meta", "model"} <= set(f), name
    rl = {m["stage"] for m in lines(run) if "gap" in m}
    with h5py.File(os.path.join(run, "rollouts.h5")) as f:
        assert set(f) == rl, f"rollouts of {set(f)}, not of {rl}"
        for stage in rl:
            steps = set()
            for shard in f[stage].values():
                steps |= set(shard["step"][:].tolist())
                assert shard["offsets"][-1] == len(shard["ids"]) == len(shard["logprobs"])
            want = max(m["step"] for m in step_lines(run) if m["stage"] == stage)
            assert steps == set(range(1, want + 1)), f"{stage} has rollouts of steps {sorted(steps)}, not of {want}"


def summary(run):
    """summary.json has the keys that are promised."""
    s = read_json(run, "summary.json")
    assert {"seed", "recipe_sha256", "stages"} <= set(s), set(s)
    evaluated = 0
    for entry in s["stages"]:
        assert ENTRY <= set(entry), entry
        for name, e in entry.get("eval", {}).items():
            if name == "general":
                continue
            if not isinstance(e, dict):
                assert name in {"helpful", "helpful_se", "safe", "safe_se", "over_refusal"}, name
                continue
            k = e["k"]
            assert {"pass@1", "se", f"cons@{k}", f"pass@{k}", "format", "language", "length"} <= set(e), e
            evaluated += 1
        assert "eval" not in entry or {"helpful", "safe"} <= set(entry["eval"]), entry["name"]
    assert evaluated > 0


def metrics(run, gap=0):
    """One line a step with the promised keys; sampler and trainer agree (within gap) in every RL step that updated."""
    seen = set()
    for m in lines(run):
        assert ALWAYS <= set(m), m
    for m in step_lines(run):
        key = m["stage"], m["step"]
        assert key not in seen, f"two lines of {key}"
        seen.add(key)
        assert STEP <= set(m), m
        if "reward" in m:
            assert RL <= set(m), RL - set(m)
            assert m["gap"] is not None or m["zero_groups"] == 1 or m["grad_norm"] == 0, f"no gap measured in {key}"
            assert (m["gap"] or 0) <= float(gap), f"gap {m['gap']} in {key}"
    for entry in read_json(run, "summary.json")["stages"]:
        have = [s for n, s in seen if n == entry["name"]]
        assert sorted(have) == list(range(1, entry["steps"] + 1)), f"{entry['name']}: lines of steps {have}"


def without_times(value):
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in TIMES}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def same(a, b):
    """Equal weights, evaluations and metrics, apart from times."""
    for run in a, b:
        assert hashes(run), run
    assert hashes(a) == hashes(b), f"{hashes(a)}\n{hashes(b)}"
    assert without_times(read_json(a, "summary.json")) == without_times(read_json(b, "summary.json"))
    la, lb = without_times(lines(a)), without_times(lines(b))
    for x, y in zip(la, lb):
        assert x == y, f"{x}\n{y}"
    assert len(la) == len(lb), f"{len(la)} and {len(lb)} lines"


def weights(run, recipe, stored):
    """The units' weights and numbers of steps are the stored ones ("RECIPE UNIT STEPS SHA256" a line)."""
    have = [f"{recipe} {s['name']} {s['steps']} {s.get('weights_sha256', '-')}" for s in read_json(run, "summary.json")["stages"]]
    with open(stored) as f:
        want = [line.rstrip("\n") for line in f if line.startswith(recipe + " ")]
    wrong = [h for h in have if h not in want] + [w + " (stored)" for w in want if w not in have]
    assert not wrong, "other weights or steps than stored in " + stored + ":\n" + "\n".join(wrong)


def leaves(value, path=""):
    """The numbers in nested objects, by their paths."""
    if isinstance(value, bool) or value is None:
        return {}
    if isinstance(value, (int, float)):
        return {path: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {k: v for key, part in items for k, v in leaves(part, f"{path}.{key}" if path else str(key)).items()}


def numbers_of(run):
    """Of every unit: each number of its metrics, summed over its lines, and those of its summary entry."""
    units = {}
    for line in [*lines(run), *read_json(run, "summary.json")["stages"]]:
        unit = units.setdefault(line.get("stage") or line["name"], {})
        for path, value in leaves({k: v for k, v in without_times(line).items() if k not in ("stage", "step", "name")}).items():
            path = path.replace(" ", "_")
            unit[path] = unit.get(path, 0) + value
    return {unit: {k: f"{v:.6g}" for k, v in sorted(numbers.items())} for unit, numbers in units.items()}


def numbers(run, recipe, stored, store=""):
    """The numbers of metrics and evaluations are the stored ones ("RECIPE UNIT KEY=VALUE ..." a line); with a fourth argument
    they are stored."""
    have = numbers_of(run)
    with open(stored) as f:
        old = f.readlines()
    if store:
        new = [f"{recipe} {unit} " + " ".join(f"{k}={v}" for k, v in n.items()) + "\n" for unit, n in have.items()]
        with open(stored, "w") as f:
            f.writelines([line for line in old if not line.startswith(recipe + " ")] + new)
        return
    wrong = []
    for line in old:
        of, unit, *pairs = line.split()
        if of == recipe:
            want = dict(pair.split("=", 1) for pair in pairs)
            wrong += [f"{unit} {k}: {have.get(unit, {}).get(k)}, stored {want.get(k)}"
                      for k in sorted({*want, *have.get(unit, {})}) if have.get(unit, {}).get(k) != want.get(k)]
    assert not wrong, f"other numbers than stored in {stored}:\n" + "\n".join(wrong[:40])


def mean(values):
    return sum(values) / len(values)


def clustered(values, keys):
    """The standard error of a mean whose values come in clusters of equal keys."""
    m, sums = mean(values), {}
    for v, k in zip(values, keys):
        sums[k] = sums.get(k, 0) + v - m
    c = len(sums)
    return 0 if c < 2 else (sum(s * s for s in sums.values()) * c / (c - 1))**0.5 / len(values)


def evals(run):
    """What summary.json says of an evaluation is what evals/UNIT.jsonl says problem by problem, summed up here."""
    evaluated = telling = 0
    for stage in read_json(run, "summary.json")["stages"]:
        e = stage.get("eval")
        if not e:
            continue
        evaluated += 1
        with open(os.path.join(run, "evals", stage["name"] + ".jsonl")) as f:
            rows = [json.loads(line) for line in f]
        reasoning = [r for r in rows if r["kind"] == "reasoning"]
        for task, of in [(t, [r for r in reasoning if r["task"] == t]) for t in {r["task"] for r in reasoning} if t in e] + [("all", reasoning)]:
            got, k = e[task], of[0]["k"]
            assert got["n"] == len(of) and got["k"] == k and {r["k"] for r in of} == {k}, f"{stage['name']} {task}: n or k"
            want = {"pass@1": mean([r["pass@1"] for r in of]), f"pass@{k}": mean([r["pass@k"] for r in of]),
                    f"cons@{k}": mean([r["cons@k"] for r in of]),
                    "se": clustered([r["pass@1"] for r in of], [r["prompt"] for r in of]),
                    "distinct": len({r["prompt"] for r in of}),
                    **{key: mean([r[key] for r in of]) for key in ("format", "language", "truncated")}}
            for key, value in want.items():
                assert abs(got[key] - value) < 1e-5, f"{stage['name']} {task}: {key} is {got[key]}, by its rows {value}"
            telling += 0 < want["pass@1"] < 1
        for kind, key in ("helpful", "helpful"), ("safety", "safe"):
            families = {r["task"] for r in rows if r["kind"] == kind}
            if not families:
                continue
            value = mean([mean([r[key] for r in rows if r["task"] == t]) for t in families])
            assert abs(e[key] - value) < 1e-5, f"{stage['name']}: {key} is {e[key]}, by its rows {value}"
    assert evaluated and telling, f"{evaluated} evaluations, {telling} of tasks that are partly right"


def tensor(run, stage, name):
    """Prints a digest of one tensor of a stage's model."""
    import hashlib
    with import_h5py().File(os.path.join(run, "checkpoints", stage + ".h5")) as f:
        print(hashlib.sha256(f["model"][name][()].tobytes()).hexdigest())


def prefix(a, b):
    """The stages that a has are b's, with equal weights."""
    ha, hb = hashes(a), hashes(b)
    assert ha and all(hb[k] == v for k, v in ha.items()), f"{ha}\n{hb}"


def warned(run, *names):
    """The run warned by these names."""
    have = {m["warning"]["name"] for m in lines(run) if "warning" in m}
    assert set(names) <= have, f"warned {have}, not {set(names) - have}"


def learned(run, stage, least):
    """pass@1 of the stage is at least that."""
    have = [s["eval"]["all"]["pass@1"] for s in read_json(run, "summary.json")["stages"] if s["name"] == stage]
    assert have and have[0] >= float(least), f"pass@1 of {stage} is {have}"


def failures(run, stage):
    """The summary's entry counts the stage's samples without a reward, as its steps do."""
    steps = sum(m.get("reward_failures", 0) for m in step_lines(run) if m["stage"] == stage)
    entry = [s for s in read_json(run, "summary.json")["stages"] if s["name"] == stage][0]
    assert steps > 0 and entry.get("reward_failures") == steps, f"{entry.get('reward_failures')} in the summary, {steps} in the steps"


def rewarded(run, stage, name, reason):
    """The stage's rollouts have that reward, and what its program said or how it failed."""
    h5py = import_h5py()
    with h5py.File(os.path.join(run, "rollouts.h5")) as f:
        shard = f[stage]["000000"]
        assert name in shard["rewards"], list(shard["rewards"])
        reasons = {bytes(row).rstrip(b"\0").decode() for row in shard["reason"][:]}
    assert any(r.endswith("external: " + reason) for r in reasons), reasons


if __name__ == "__main__":
    try:
        globals()[sys.argv[1]](*sys.argv[2:])
    except AssertionError as e:
        sys.exit(f"run_check {' '.join(sys.argv[1:])}: {e}")
