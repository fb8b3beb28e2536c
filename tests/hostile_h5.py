"""hostile_h5.py R1 CHECKPOINT FOLDER: checkpoints whose seal is right and whose contents are not. A seal is no signature: whoever changes a
file can seal it again. Every command must end with exit code 0 or 1 and one sentence, never by a signal."""
import hashlib
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from run_check import import_h5py  # noqa: E402

h5py = import_h5py()
import numpy as np  # noqa: E402

R1, GOOD, FOLDER = sys.argv[1:]
HUGE = 2**62


def seal(path):
    """The first 512 bytes: a line with the format, the file's length and the SHA-256 of all that follows."""
    with open(path, "r+b") as f:
        old = f.read(512).rstrip(b"\0").decode()
        rest = f.read()
        words = old.split()
        at = next(i for i, w in enumerate(words) if len(w) == 64)
        length = next(i for i, w in enumerate(words) if w.isdigit() and int(w) > 512)
        new = old.replace(words[at], hashlib.sha256(rest).hexdigest()).replace(words[length], str(512 + len(rest)))
        f.seek(0)
        f.write(new.encode().ljust(512, b"\0"))


def head(f, dtype, ndim, shape, name="x", data=b"abcd"):
    f[f"tensor_shapes/{name}"] = np.array([dtype, ndim] + (list(shape) + [0] * 8)[:8], np.uint64)
    f[f"tensors/{name}"] = np.frombuffer(data, np.uint8)


def unallocated(f, name, n, dtype=np.uint8):
    if name in f:
        del f[name]
    f.create_dataset(name, (n,), dtype, chunks=(min(n, 1024),))


def external(f):
    del f["model/model.norm.weight"]
    f["model/model.norm.weight"] = h5py.ExternalLink(GOOD, "model/model.norm.weight")


def retype(f, name, dtype):
    data = f[name][()]
    del f[name]
    f[name] = data.astype(dtype)


CASES = {
    "more values than bytes": lambda f: head(f, 9, 1, [2000]),
    "a million dimensions": lambda f: head(f, 9, 10**6, [1]),
    "nine dimensions": lambda f: head(f, 9, 9, [1]),
    "an unknown type": lambda f: head(f, 99, 1, [1]),
    "a negative type": lambda f: head(f, 2**64 - 1, 1, [1]),
    "a shape that overflows": lambda f: head(f, 9, 8, [2**32] * 8),
    "a shape without its tensor": lambda f: f.__setitem__("tensor_shapes/y", np.array([9, 1, 1, 0, 0, 0, 0, 0, 0, 0], np.uint64)),
    "a file named ..": lambda f: f.__setitem__("files/..x", np.zeros(4, np.uint8)),
    "a recipe of 2^62 bytes": lambda f: unallocated(f, "meta/recipe", HUGE),
    "a tokenizer of 2^40 bytes": lambda f: unallocated(f, "meta/tokenizer", 2**40),
    "a config of 2^40 bytes": lambda f: unallocated(f, "meta/config_json", 2**40),
    "weights that were never stored": lambda f: unallocated(f, "model/model.norm.weight", 64, np.float32),
    "weights in another file": external,
    "weights of another type": lambda f: retype(f, "model/model.norm.weight", np.float64),
    "no weights": lambda f: f.__delitem__("model/model.norm.weight"),
    "a group in the place of weights": lambda f: (f.__delitem__("model/model.norm.weight"), f.create_group("model/model.norm.weight")),
}
bad = 0
for name, change in CASES.items():
    path = os.path.join(FOLDER, "hostile.h5")
    shutil.copyfile(GOOD, path)
    with h5py.File(path, "r+") as f:
        change(f)
    seal(path)
    for words in (["inspect", path], ["export", path, "--format", "hf", "-o", os.path.join(FOLDER, "out")],
                  ["eval", path, "--task", "sort", "--n", "1", "--k", "1"]):
        shutil.rmtree(os.path.join(FOLDER, "out"), ignore_errors=True)
        done = subprocess.run([R1, *words], capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
        said = done.stderr.strip().splitlines()
        if done.returncode not in (0, 1) or "internal error" in done.stderr or (done.returncode == 1 and not said):
            print(f"{name}: r1 {words[0]} ended with {done.returncode}: {done.stderr.strip()[:200]}")
            bad += 1
        elif done.returncode == 0 and words[0] != "inspect":
            print(f"{name}: r1 {words[0]} took it")
            bad += 1
sys.exit(bad > 0)
