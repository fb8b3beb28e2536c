"""cells.py NOTEBOOK...: executes the code cells of notebooks in order, without Jupyter and without drawing."""
import json
import os
import sys
import types


class Nothing:
    """Stands for matplotlib: takes every call, gives itself back."""

    def __getattr__(self, name):
        return self

    def __call__(self, *args, **kwargs):
        return self

    def __getitem__(self, key):
        return self

    def __iter__(self):
        return iter([self] * 2)


def subplots(rows=1, columns=1, **kwargs):
    n = rows * columns
    axes = Nothing() if n == 1 else [Nothing()] * n
    return Nothing(), [axes if n > 1 else [axes]] if kwargs.get("squeeze") is False else axes


plots = types.ModuleType("matplotlib.pyplot")
plots.__getattr__ = lambda name: Nothing()
plots.subplots = subplots
sys.modules["matplotlib"] = types.ModuleType("matplotlib")
sys.modules["matplotlib.pyplot"] = plots
sys.modules["matplotlib"].pyplot = plots
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
for path in sys.argv[1:]:
    names = {}
    for number, cell in enumerate(json.load(open(path, encoding="utf-8"))["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{os.path.basename(path)}, cell {number}", "exec"), names)
