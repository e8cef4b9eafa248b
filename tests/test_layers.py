"""Imports run downward only, and `import scoresde` stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "scoresde"
# from the bottom up; a module may import what is on lower floors, and its own folder
FLOORS = (
    {"errors", "plain", "progress", "vocabulary", "_lazy", "_version"},
    {"_secrets", "files", "parallel", "room"},
    {"constraints"},
    {"described", "kept"},
    {"build", "noise", "_shapes", "nets", "evaluations"},
    {"named"},
    {"mixture", "sde"},
    {"precond", "dynamics", "variance"},
    {"prediction"},
    {"model"},
    {"analytic", "conditional", "control", "labelled"},
    {"chains"},
    {"sampling", "loss", "doctor", "divergence"},
    {"data"},
    {"observation"},
    {"posterior"},
    {"results"},
    {"metrics", "loggers", "figures"},
    {"likelihood"},
    {"checks"},
    {"training"},
    {"runs", "tuning"},
    {"workflows", "comparison", "convert", "sweeps"},
    {"interop"},
    {"cli"},
)
ASIDE = {"data", "results", "metrics", "loggers", "figures"}  # know no SDE and no model, though they stand higher up
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(file: Path) -> set[str]:
    """All modules that a file imports, also within functions and for type checking."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part(name: str) -> str:
    """The part of the package to which a module belongs: scoresde.sampling.grid is of sampling."""
    return name.split(".")[1]


def floor(name: str) -> int:
    return next(i for i, parts in enumerate(FLOORS) if name in parts)


def own(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downward(file):
    home = own(file)
    if home in ("__init__", "__main__"):
        return
    there = {p.stem for p in PACKAGE.iterdir()}
    for name in imported(file):
        if name.startswith("scoresde.") and part(name) in there and part(name) != home:
            assert floor(part(name)) < floor(home), f"{home} imports {name}"
            if home in ASIDE:
                assert part(name) in {*FLOORS[0], *FLOORS[1], *FLOORS[2], "_shapes", *ASIDE}, f"{home} imports {name}"


@pytest.mark.parametrize("file", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_command_line_knows_hydra(file):
    if own(file) != "cli":
        assert not {name.split(".")[0] for name in imported(file)} & {"hydra", "omegaconf"}


def test_importing_everything_that_is_exported_imports_nothing_heavy():
    code = (
        "import sys, scoresde; [getattr(scoresde, name) for name in scoresde.__all__]; "
        "print([m for m in sys.modules if m.split('.')[0] in "
        "('wandb', 'hydra', 'omegaconf', 'pydantic', 'matplotlib', 'sklearn', 'torchdiffeq') "
        "or m.startswith(('scipy.integrate', 'scipy.optimize', 'scipy.stats'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
