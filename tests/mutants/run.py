"""Small wrong changes, one at a time, each of which must turn a test red: `make test-mutants`.

python3 tests/mutants/run.py [--check] [PATTERN]: of the mutants in the lists here (or in the file $LIST) whose file, old text or
finding holds PATTERN; --check only looks that each still applies. The tree is copied into build/mutants, so that the sources here stay as they are.

A list has a paragraph a mutant:
    file PATH           the source that is changed
    old TEXT            what is there once (several lines: several `old`)
    new TEXT            what stands there instead; none: it is taken out
    red TEST ...        tests of which one must fail: a unit test, NAME.sh of tests/sh, or `keys`, `micro`, `mechanisms`: their stored weights and
                        numbers, and micro's evaluations by their rows
    survives REASON     instead of red: no test can tell, and why
    finding NUMBER      of the audit whose mend it undoes (docs/log.md); PATTERN finds it too
"""
import glob
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TREE = os.path.join(ROOT, "build", "mutants")
STORED = ("keys", "micro", "mechanisms")
LIMIT = 300  # seconds a test may take; one that hangs is red


def read_list(path):
    mutants, mutant, short = [], {}, os.path.basename(path)
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate([*f, "\n"], 1):
            key, _, text = line.rstrip("\n").partition(" ")
            if not line.strip():
                if mutant:
                    mutants.append(mutant)
                mutant = {}
            elif key == "#":
                continue
            elif key in ("old", "new"):
                mutant[key] = mutant[key] + "\n" + text if key in mutant else text
            elif key in ("file", "red", "survives", "finding"):
                mutant[key] = text
                mutant.setdefault("place", f"{short}:{number}")
            else:
                sys.exit(f"{short}:{number}: {key} is none of file, old, new, red, survives, finding")
    return mutants


def name(m):
    return f"{m['place']} {m.get('finding', '')} {m['file']}: {m['old'].strip()[:60]!r}"


def source(m, root):
    with open(os.path.join(root, m["file"]), encoding="utf-8") as f:
        return f.read()


def wrong(m):
    """Why a mutant cannot be made, or None."""
    if not os.path.exists(os.path.join(ROOT, m["file"])):
        return "there is no such file"
    count = source(m, ROOT).count(m["old"])
    return None if count == 1 else f"the old text is there {count} times, not once: write it anew"


def copy_tree():
    tracked = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True)
    paths = tracked.stdout.split("\n")
    for folder, names, files in os.walk(TREE):
        names[:] = [n for n in names if os.path.join(folder, n) != os.path.join(TREE, "build")]
        for gone in {os.path.relpath(os.path.join(folder, f), TREE) for f in files} - {*paths, "r1"}:
            os.remove(os.path.join(TREE, gone))
    for path in paths:
        here, there = os.path.join(ROOT, path), os.path.join(TREE, path)
        if not path or not os.path.isfile(here):
            continue
        if os.path.exists(there) and open(there, "rb").read() == open(here, "rb").read():
            continue
        os.makedirs(os.path.dirname(there), exist_ok=True)
        shutil.copy(here, there)
    shared, there = os.path.join(ROOT, "..", "shared"), os.path.join(ROOT, "build", "shared")
    if os.path.isdir(shared) and not os.path.exists(there):
        os.symlink(os.path.abspath(shared), there)


def make(*targets):
    compiler = os.environ.get("CC", "gcc")
    if shutil.which("ccache") and "ccache" not in compiler:
        compiler = "ccache " + compiler  # a mutant is tried again whenever its test changed
    return subprocess.run(["make", "-s", f"-j{os.cpu_count()}", f"CC={compiler}", *targets], cwd=TREE, capture_output=True, text=True)


def run(command, env=None):
    try:
        return subprocess.run(command, cwd=TREE, env={**os.environ, **(env or {})}, capture_output=True, timeout=LIMIT).returncode
    except subprocess.TimeoutExpired:
        return 1


def stored_weights(recipe):
    out = os.path.join(TREE, "build", "run")
    shutil.rmtree(out, ignore_errors=True)
    path = recipe if recipe == "micro" else f"tests/{recipe}.yaml"
    checks = [["weights", out, recipe, "tests/weights.txt"], ["numbers", out, recipe, "tests/numbers.txt"]]
    if recipe == "micro":
        checks.append(["evals", out])
    return run(["./r1", "run", path, "--quiet", "--out", out]) or any(run(["python3", "tests/run_check.py", *c]) for c in checks)


def fails(test):
    """Whether the test is red in the copied tree; a string when it cannot be run."""
    unit = test.startswith("test_") and not test.endswith(".sh")
    built = make(f"T={test}", "unit") if unit else make("all")
    if built.returncode:
        return "does not compile: " + built.stderr.strip().split("\n")[0]
    if unit:
        return run([f"build/tests/{test}"]) != 0
    if test in STORED:
        return stored_weights(test) != 0
    return run(["sh", "tests/run.sh"], {"T": test.removesuffix(".sh"), "SUITES": "sh"}) != 0


def with_mutant(m, test):
    path = os.path.join(TREE, m["file"])
    text = source(m, TREE)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text.replace(m["old"], m.get("new", "")))
    try:
        return fails(test)
    finally:
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)


def try_mutant(m, sound):
    """sound: tests seen green without a mutant; asked only of those that turn red."""
    for test in m.get("red", "").split():
        verdict = with_mutant(m, test)
        if isinstance(verdict, str):
            return "BAD: " + verdict
        if not verdict:
            continue
        if test not in sound and fails(test):
            return f"BAD: {test} is red without any mutant"
        sound.add(test)
        return f"dies in {test}"
    return "SURVIVES"


def main():
    arguments = sys.argv[1:]
    only_check = "--check" in arguments
    pattern = ([a for a in arguments if a != "--check"] or [""])[0]
    lists = [os.environ["LIST"]] if "LIST" in os.environ else sorted(glob.glob(os.path.join(HERE, "*.txt")))
    mutants = [m for path in lists for m in read_list(path) if pattern in m["file"] + m["old"] + m.get("finding", "")]
    stale = [f"{name(m)}: {wrong(m)}" for m in mutants if wrong(m)]
    if stale or only_check:
        print("\n".join(stale) or f"{len(mutants)} mutants apply")
        return bool(stale)
    copy_tree()
    bad = explained = 0
    sound = set()
    for m in mutants:
        if "survives" in m:
            explained += 1
            print(f"survives {name(m)}: {m['survives']}", flush=True)
            continue
        verdict = try_mutant(m, sound)
        bad += not verdict.startswith("dies")
        print(f"{verdict:28} {name(m)}", flush=True)
    print(f"{len(mutants)} mutants: {len(mutants) - bad - explained} die, {explained} survive with a reason, {bad} must not")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
