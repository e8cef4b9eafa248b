"""How many wrong numbers the tests let through: `python tests/mutants.py --each 5 --seed 0`, or `make mutants`.

Changes one thing at a time in a copy of the package (a number, an operator, a comparison, the name of a function, a
keyword argument), runs the tests of that part, and reports the changes for which every test still passed. Some of
those change nothing that can be seen; a person decides which. Exit code 1 if fewer than `--least` per cent of all
changes were noticed, so that a nightly job fails.

    --part sampling     only this part (a folder or a module of scoresde)
    --each 5            changes in each part
    --seed 0            which ones; the same seed makes the same changes
    --list              print the changes and run nothing
"""

import argparse
import ast
import copy
import itertools
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 600.0  # seconds for the tests of one change; a loop that never ends is noticed

# Beginnings of the names of the test files that hold a part; these run until one fails, first that of the changed
# module where there is one, then the quickest.
PARTS = {
    "sampling": (
        *("reference_samples", "peers", "grid", "last_step", "adaptive", "corrector", "wrappers", "blackbox"),
        *("limit_law", "sampler", "infinite_noise", "public", "named", "conf", "tuning", "path", "directions", "order"),
    ),
    "sde": ("sde", "user_sde", "infinite_noise", "model", "analytic", "tuning", "public", "conf", "order"),
    "model": ("model", "prediction", "control", "interop", "user_sde"),
    "prediction": ("prediction", "model", "interop", "infinite_noise"),
    "precond": ("model", "prediction", "loss"),
    "analytic": ("analytic", "model", "bound", "sampler"),
    "control": ("guidance", "control", "wrappers"),
    "conditional": ("guidance", "tilted"),
    "observation": ("observation", "asked"),
    "posterior": ("posterior", "twisted", "tilted", "exact_posterior", "inverse"),
    "checks": ("calibration", "stein"),
    "loss": ("loss", "loss_levels", "training_losses", "training_reference", "conf"),
    "noise": ("noise", "sampler", "reference_samples"),
    "metrics": ("metrics", "distances", "metrics_features", "metrics_needs", "modes"),
    "comparison": ("compare", "compare_cli", "compare_peers", "old_results", "results"),
    "results": ("results", "old_results", "compare", "compare_cli", "metrics_needs"),
    "training": (
        *("training_step", "ema", "training_conditions", "training_losses", "training_reference", "checkpoint"),
        *("training", "resume", "train_python", "training_speed"),
    ),
    "tuning": ("tuning",),
    "data": (
        *("data_values", "data", "data_augment", "data_stored", "data_arrays", "data_pixels", "data_tables"),
        *("data_huggingface", "bad_data", "sizes", "train_python"),
    ),
    "nets": (
        *("nets_blocks", "nets_unet", "nets_magnitude", "nets_dit", "nets_condition", "nets", "nets_counts"),
        *("nets_peers",),
    ),
    "convert": (
        *("convert_layouts", "convert_renamed", "convert_schedulers", "convert_adm", "convert_dit", "convert_edm2"),
        *("convert_score_sde", "convert_files", "export", "convert_cli"),
    ),
    "doctor": ("doctor",),
    "figures": ("figures", "path", "data_pixels", "event_shapes"),
}

OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult},
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.And: ast.Or, ast.Or: ast.And},
}
PAIRS = (
    *(("min", "max"), ("amin", "amax"), ("minimum", "maximum"), ("floor", "ceil"), ("mean", "median"), ("any", "all")),
    *(("sin", "cos"), ("exp", "expm1"), ("log", "log1p"), ("sqrt", "abs"), ("alpha", "sigma"), ("t_min", "t_train")),
    *(("start", "end"), ("cumsum", "cumprod"), ("normal", "uniform"), ("rtol", "atol"), ("real", "imag")),
)
NAMES = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])}
# no number on a CPU depends on them; `level` hands on what would be computed again
UNSEEN = {
    *("bound", "device", "frozen", "level", "metadata", "non_blocking", "refresh", "repr", "set_to_none", "slots"),
    *("strict", "thread_name_prefix"),
}
# of figures: the look of what is drawn, and the inches of panels, of which only a person can say that they are wrong
LOOKS = {
    *("alpha", "s", "lw", "linewidth", "linewidths", "elinewidth", "capsize", "ms", "zorder", "shrink", "pad"),
    *("fontsize", "labelsize", "dpi", "margins", "frameon", "ncols", "color", "edgecolors", "facecolor", "loc"),
    *("length", "panels", "wrapped", "font", "load_default", "span", "square"),  # the last two: a margin
}
SKIPPED = (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom, ast.arg, ast.AnnAssign)  # words, names and types


@dataclass(frozen=True)
class Mutant:
    """One change: the file, the line, the text before and after, and the place of the text in the file's bytes."""

    file: Path
    line: int
    before: str
    after: str
    begin: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}  {' '.join(self.before.split())}  ->  {self.after}"

    def applied(self, source: str) -> str:
        """The file's text with the change; parentheses keep it one expression."""
        whole, end = source.encode(), self.begin + len(self.before.encode())
        return (whole[: self.begin] + f"({self.after})".encode() + whole[end:]).decode()


def mutants(file: Path) -> Iterator[Mutant]:
    """Every change that is known in a file."""
    source = (ROOT / file).read_text()
    starts = list(itertools.accumulate((len(line.encode()) for line in source.splitlines(keepends=True)), initial=0))
    unseen = UNSEEN | LOOKS if "figures" in file.parts else UNSEEN
    for node in _visited(ast.parse(source), unseen):
        for changed in _changes(node, unseen):
            before, after = ast.get_source_segment(source, node), ast.unparse(changed)
            if before is not None and ast.unparse(node) != after:
                yield Mutant(file, node.lineno, before, after, starts[node.lineno - 1] + node.col_offset)


def _visited(node: ast.AST, unseen: set[str]) -> Iterator[ast.AST]:
    """Nodes in which a change can make a number wrong: no messages, imports, annotations, defaults in words."""
    decorators = getattr(node, "decorator_list", [])
    for child in ast.iter_child_nodes(node):
        if child in decorators or (isinstance(child, ast.keyword) and child.arg in unseen):
            continue
        if isinstance(child, ast.Constant) and isinstance(node, ast.Call) and _called(node) in unseen:
            continue
        if isinstance(child, SKIPPED) or (isinstance(child, ast.FunctionDef) and "repr" in child.name):
            if isinstance(child, ast.AnnAssign) and child.value is not None:
                yield child.value
                yield from _visited(child.value, unseen)
            continue
        yield child
        yield from _visited(child, unseen)


def _called(node: ast.Call) -> str:
    return ast.unparse(node.func).rpartition(".")[2]


def _changes(node: ast.AST, unseen: set[str]) -> Iterator[ast.AST]:
    match node:
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(value=float(value)):
            yield ast.Constant(value * 1.1 if value else 0.1)
        case ast.BinOp() | ast.BoolOp() if type(node.op) in OPERATORS:
            yield _with(node, op=OPERATORS[type(node.op)]())
        case ast.Compare(ops=[op]) if type(op) in OPERATORS:
            yield _with(node, ops=[OPERATORS[type(op)]()])
        case ast.UnaryOp(op=ast.USub() | ast.Not()):
            yield node.operand
        case ast.Attribute(attr=name) if name in NAMES:
            yield _with(node, attr=NAMES[name])
        case ast.Call(keywords=[_, *_]):
            for k in (i for i, keyword in enumerate(node.keywords) if keyword.arg not in unseen):
                yield _with(node, keywords=node.keywords[:k] + node.keywords[k + 1 :])
        case ast.IfExp():
            yield _with(node, body=node.orelse, orelse=node.body)


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def chosen(part: str, each: int, seed: int) -> list[Mutant]:
    """The changes of a part for a seed; those of a larger number begin with those of a smaller one."""
    folder = ROOT / "scoresde" / part
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    every = [mutant for file in files for mutant in mutants(file.relative_to(ROOT))]
    random.Random(f"{seed} {part}").shuffle(every)
    return every[:each]


def noticed(mutant: Mutant, tests: list[str], copied: Path) -> bool:
    """Whether a test of the part fails, or does not end, with this change."""
    target = copied / mutant.file
    original = target.read_text()
    target.write_text(mutant.applied(original))
    environment = {**os.environ, "PYTHONPATH": str(copied), "PYTHONDONTWRITEBYTECODE": "1"}
    own = sorted(tests, key=lambda test: mutant.file.stem not in test)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *own]
    try:
        done = subprocess.run(command, cwd=copied, env=environment, capture_output=True, timeout=TIMEOUT, check=False)
        return done.returncode != 0
    except subprocess.TimeoutExpired:
        return True
    finally:
        target.write_text(original)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, action="append", help="only these parts")
    parser.add_argument("--each", type=int, default=5, help="changes in each part")
    parser.add_argument("--seed", type=int, default=0, help="which changes")
    parser.add_argument("--least", type=float, default=95.0, help="per cent that must be noticed")
    parser.add_argument("--list", action="store_true", help="print the changes and run nothing")
    arguments = parser.parse_args()
    parts = {part: chosen(part, arguments.each, arguments.seed) for part in arguments.part or PARTS}
    if arguments.list:
        print(*(f"{part:10} {mutant}" for part, found in parts.items() for mutant in found), sep="\n")
        return 0
    return _run(parts, arguments.least)


def _run(parts: dict[str, list[Mutant]], least: float) -> int:
    survived: list[Mutant] = []
    total, began = sum(map(len, parts.values())), time.perf_counter()
    done = 0
    with tempfile.TemporaryDirectory(prefix="scoresde-mutants-") as folder:
        copied = Path(folder)
        for name in ("scoresde", "tests", "conf", "docs", "README.md", "pyproject.toml"):
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, copied / name)
        for part, found in parts.items():
            tests = [f"tests/test_{name}.py" for name in PARTS[part]]
            for mutant in found:
                seen = noticed(mutant, tests, copied)
                done += 1
                left = (time.perf_counter() - began) / done * (total - done) / 60
                print(f"[{done}/{total}, {left:.0f} min left] {'' if seen else 'NOT NOTICED '}{mutant}", flush=True)
                survived += [] if seen else [mutant]
    share = 100 * (1 - len(survived) / max(total, 1))
    print(f"\n{total - len(survived)} of {total} changes were noticed ({share:.0f} %)")
    print(*(f"not noticed: {mutant}" for mutant in survived), sep="\n")
    return int(share < least)


if __name__ == "__main__":
    sys.exit(main())
