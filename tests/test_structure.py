"""The shape of the code: no circles among modules, files of one subject, functions that fit a screen."""

import ast
import graphlib
import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "scoresde").rglob("*.py"))
LONGEST_FILE, LONGEST_FUNCTION, MOST_BRANCHES = 300, 45, 15
BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case)
TEXTS = (".py", ".md", ".ipynb")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def module(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(file): ast.parse(file.read_text(encoding="utf-8")) for file in FILES}


def imported(tree: ast.AST) -> set[str]:
    """The modules of scoresde that a module imports, also within functions and for type checking."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in MODULES else str(node.module) for name in whole}
    return names & MODULES.keys()


def branches(function: Function) -> int:
    """Cyclomatic complexity: one, and one more for each branch, condition and loop."""
    count = 1
    for node in ast.walk(function):
        if isinstance(node, BRANCHES):
            count += 1
        elif isinstance(node, ast.BoolOp):
            count += len(node.values) - 1
        elif isinstance(node, ast.comprehension):
            count += 1 + len(node.ifs)
    return count


def lines(function: Function) -> int:
    """Lines without the docstring."""
    documented = ast.get_docstring(function) is not None
    return function.end_lineno - function.lineno + 1 - (_height(function.body[0]) if documented else 0)


def _height(node: ast.stmt) -> int:
    return node.end_lineno - node.lineno + 1


def functions() -> list[tuple[str, Function]]:
    return [
        (f"{name}:{node.lineno} {node.name}", node)
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, Function)
    ]


def test_no_modules_import_each_other_in_a_circle():
    edges = {name: imported(tree) - {name} for name, tree in MODULES.items()}
    for stub in sorted((ROOT / "scoresde").rglob("*.pyi")):  # what a package imports when it is asked for
        edges[module(stub)] |= imported(ast.parse(stub.read_text(encoding="utf-8"))) - {module(stub)}
    graphlib.TopologicalSorter(edges).prepare()  # raises CycleError, which names the circle


def test_a_circle_would_be_found():
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()


def test_files_are_short():
    long = {str(f.relative_to(ROOT)): n for f in FILES if (n := f.read_text().count("\n")) > LONGEST_FILE}
    assert long == {}


def test_functions_fit_a_screen():
    long = {name: n for name, f in functions() if (n := lines(f)) > LONGEST_FUNCTION and ".nets." not in name}
    assert long == {}


def test_functions_have_few_branches():
    tangled = {name: n for name, f in functions() if (n := branches(f)) > MOST_BRANCHES}
    assert tangled == {}


STUBS = sorted((ROOT / "scoresde").rglob("*.pyi"))


@pytest.mark.parametrize("stub", STUBS, ids=module)
def test_a_stub_names_what_its_modules_define(stub):
    package = importlib.import_module(module(stub))
    listed = [node for node in ast.parse(stub.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    names = {alias.name: node.module for node in listed for alias in node.names}
    for name, source in names.items():
        found = getattr(package, name)
        called = isinstance(found, ModuleType) and callable(found)  # as scoresde.sde("vp"), which is a package too
        assert called or found is getattr(importlib.import_module(source), name)
    assert {name for name in names if name[0] != "_"} == set(package.__all__) <= set(dir(package))


def _imported_by_users():
    """(file, package, name) of all imports from packages with a stub in tests, benchmarks and documentation."""
    packages = {module(stub) for stub in STUBS}
    files = [f for folder in ("tests", "benchmarks", "docs") for f in (ROOT / folder).rglob("*") if f.suffix in TEXTS]
    for file in [*files, *ROOT.glob("*.md")]:
        for package, names in re.findall(r"^\W*from (scoresde[\w.]*) import ([\w, ]+)", file.read_text(), re.MULTILINE):
            if package in packages:
                yield from ((file.name, package, name.split()[0]) for name in names.split(",") if name.strip())


def test_what_tests_and_documentation_import_is_there():
    listed = list(_imported_by_users())
    assert len(listed) > 100
    for file, package, name in listed:
        found = importlib.import_module(package)
        assert hasattr(found, name) or f"{package}.{name}" in MODULES, f"{file} imports {name} from {package}"
