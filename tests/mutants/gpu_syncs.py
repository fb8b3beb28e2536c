"""Takes out every barrier, warp sync and wait for a copy of gpu/kernels, one at a time: the tests of ops must go red on the checked emulator.

python3 tests/mutants/gpu_syncs.py [PATTERN]: only files whose path holds PATTERN. Needs `make emulated unit` in build/.
"""
import glob
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OBJECTS = "build/gpu/checked"
FLAGS = "-std=c++17 -O2 -fPIC -fvisibility=hidden -ffp-contract=off -Wno-unknown-pragmas -mavx2 -mfma -fsanitize=thread"
TESTS = {
    "adamw": "ops_optimizer", "moments": "moments", "attention": "attention", "attention_bwd": "attention", "attention_cache": "attention_cache",
    "attention_latent": "attention_cache", "embed": "ops_rows", "head": "ops_head", "router": "ops_router", "sample": "ops_head",
    "sort": "ops_balance", "gemm_f32": "ops_linear", "fma_product": "ops_linear", "mma_product": "ops_linear_bf16", "gate_up": "ops_fused", "logits": "ops_fused", "attention_tile": "attention", "attention_pages": "attention_cache", "gemm_mma": "ops_linear_bf16",
    "attention_mma": "attention_bf16", "flash": "attention_bf16", "attention_mma_bwd": "attention_bf16", "attention_mma_latent": "attention_bf16",
}


def users(path):
    """The kernel files that a changed file goes into."""
    if path.endswith(".cu"):
        return [path]
    include = f'#include "{path}"'
    return [f for f in glob.glob("gpu/kernels/**/*.cu", recursive=True) if include in open(f, encoding="utf-8").read()]


def build(folder, path):
    """The plugin with that file changed, or None where it does not compile."""
    changed = users(path)
    for f in changed:
        source = os.path.join(folder, f) if f == path else f
        command = ["g++", *FLAGS.split(), "-I", folder, "-I.", "-Igpu/emu", "-x", "c++", "-c", source, "-o",
                   os.path.join(folder, os.path.basename(f) + ".o")]
        if subprocess.run(command, capture_output=True).returncode:
            return None
    objects = [o for o in glob.glob(OBJECTS + "/**/*.o", recursive=True) if "selftest" not in o]
    objects = [o for o in objects if o[len(OBJECTS) + 1 : -2] not in changed]
    objects += [os.path.join(folder, os.path.basename(f) + ".o") for f in changed]
    plugin = os.path.join(folder, "plugin.so")
    return plugin if subprocess.run(["g++", "-shared", *objects, "-o", plugin]).returncode == 0 else None


def red(plugin, test):
    try:
        only = {"attention_bf16": "*tensor_cores", "ops_linear_bf16": "tiles_agree"}.get(test, "*")
        run = subprocess.run([f"build/tests/test_{test}"], timeout=300,
                             env={**os.environ, "R1_GPU_PLUGIN": plugin, "R1_LAB_ONLY": only},
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except subprocess.TimeoutExpired:
        return True
    return run.returncode != 0 or b"emulated GPU" in run.stdout


def main():
    os.chdir(ROOT)
    made = dead = 0
    for path in sorted(glob.glob("gpu/kernels/**/*.cu*", recursive=True)):
        if len(sys.argv) > 1 and sys.argv[1] not in path:
            continue
        text = open(path, encoding="utf-8").read()
        for site in re.finditer(r"__sync(threads|warp)\(\);|copy_async_wait<[^;]*\(\);", text):
            line = text.count("\n", 0, site.start()) + 1
            with tempfile.TemporaryDirectory() as folder:
                os.makedirs(os.path.join(folder, os.path.dirname(path)))
                with open(os.path.join(folder, path), "w", encoding="utf-8") as out:
                    out.write(text[: site.start()] + ";" + text[site.end() :])
                plugin = build(folder, path)
                died = plugin is not None and red(plugin, TESTS[os.path.basename(path).split(".")[0]])
            made, dead = made + 1, dead + died
            print(f"{path}:{line}: {'red' if died else 'SURVIVES' if plugin else 'DOES NOT COMPILE'}", flush=True)
    print(f"{made} without one barrier, warp sync or wait, {dead} red")
    return made != dead


sys.exit(main())
