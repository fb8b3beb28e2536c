"""What the notebooks share: finding ./r1, making a run if it is not there, reading what it left."""
import json
import os
import subprocess

import h5py
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
R1 = os.environ.get("R1", os.path.join(HERE, "..", "r1"))
RUNS = os.environ.get("NOTEBOOK_RUNS", os.path.join(HERE, "..", "runs", "notebooks"))


def r1(*words, text=""):
    """Runs ./r1 with these words, `text` as its standard input, and returns what it prints; its own sentence is the error."""
    done = subprocess.run([R1, *map(str, words)], input=text, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"r1 {' '.join(map(str, words))}\n{done.stderr.strip()}")
    return done.stdout


def run(name, recipe, *words):
    """The folder of `r1 run recipe words...`; a finished run is taken as it is."""
    folder = os.path.join(RUNS, name)
    r1("run", recipe, *words, "--out", folder)
    return folder


def weights(folder, stage):
    """name -> f32 array, and the model's config."""
    with h5py.File(os.path.join(folder, "checkpoints", stage + ".h5")) as f:
        config = json.loads(bytes(f["meta/config_json"][()]))
        return {k: v[()] for k, v in f["model"].items()}, config


def metrics(folder, stage):
    """The lines of metrics.jsonl of a stage's steps, evaluations left out."""
    with open(os.path.join(folder, "metrics.jsonl"), encoding="utf-8") as f:
        lines = [json.loads(line) for line in f]
    return [m for m in lines if m.get("stage") == stage and "loss" in m]


def rollouts(folder, stage, step):
    """Every array of a stage's samples at one step; token arrays as a list, one array a sample."""
    with h5py.File(os.path.join(folder, "rollouts.h5")) as f:
        for block in f[stage].values():
            rows = np.flatnonzero(block["step"][()] == step)
            if len(rows) == 0:
                continue
            offsets = block["offsets"][()]
            out = {"rewards": {k: v[()][rows] for k, v in block["rewards"].items()}}
            for key, value in block.items():
                if key in ("offsets", "rewards", "step"):
                    continue
                value = value[()]
                if len(value) == offsets[-1] and key in ("ids", "logprobs", "entropy", "ref_logprobs"):
                    out[key] = [value[offsets[i]:offsets[i + 1]] for i in rows]
                elif value.dtype == np.uint8 and value.ndim == 2:
                    out[key] = [bytes(row).rstrip(b"\0").decode() for row in value[rows]]
                else:
                    out[key] = value[rows]
            return out
    raise RuntimeError(f"{folder} has no rollouts of {stage} at step {step}")


def tensors(path):
    """A safetensors file of f32 and i32 tensors: `r1 score --out` writes one."""
    with open(path, "rb") as f:
        data = f.read()
    n = int.from_bytes(data[:8], "little")
    out = {}
    for name, t in json.loads(data[8:8 + n]).items():
        if name != "__metadata__":
            a, b = t["data_offsets"]
            kind = {"F32": "<f4", "I32": "<i4", "I64": "<i8", "F64": "<f8"}[t["dtype"]]
            out[name] = np.frombuffer(data[8 + n + a:8 + n + b], kind).reshape(t["shape"])
    return out
