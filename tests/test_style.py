"""The glossary of docs/style.md, and docstrings that say what the code does."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from pkgutil import walk_packages

import pytest

import scoresde

ROOT = Path(__file__).parents[1]
# words that docs/style.md replaces, and that have no other use here
AVOIDED = ("told", "mend", "mends", "mended", "astray", "anew", "amiss", "once more", "keyboard", "thereof")
FILES = [
    *(ROOT / "scoresde").rglob("*.py"),
    *(ROOT / "conf").rglob("*.yaml"),
    *(p for p in (ROOT / "docs").rglob("*.md") if p.name != "style.md"),
    *ROOT.glob("*.md"),
]
MODULES = sorted(m.name for m in walk_packages(scoresde.__path__, "scoresde.") if not m.name.endswith("__main__"))


def test_words_of_the_glossary():
    pattern = re.compile(rf"\b({'|'.join(AVOIDED)})\b", re.IGNORECASE)
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in FILES
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, "see docs/style.md:\n" + "\n".join(found)


def documented(docstring: str) -> list[str]:
    """What stands before the colon of each entry of the section Args."""
    section = re.search(r"^Args:\n((?: {4}.*\n?|\n)*)", inspect.cleandoc(docstring), re.MULTILINE)
    return re.findall(r"^ {4}(?! )([^:\n]+):", section[1], re.MULTILINE) if section else []


def docstrings(file: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            yield node.name, text


def test_an_entry_of_a_docstring_describes_one_argument():
    wrong = [
        f"{file.relative_to(ROOT)}: {name}: {entry}"
        for file in sorted((ROOT / "scoresde").rglob("*.py"))
        for name, text in docstrings(file)
        for entry in documented(text)
        if not re.fullmatch(r"\*{0,2}\w+", entry)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", MODULES)
def test_documented_arguments_exist(module):
    """Classes document what their constructor takes, functions their parameters."""
    for name, obj in vars(importlib.import_module(module)).items():
        if not (inspect.isclass(obj) or inspect.isfunction(obj)) or obj.__module__ != module or not obj.__doc__:
            continue
        members = [(name, obj)]
        if inspect.isclass(obj):
            members += [(f"{name}.{n}", m) for n, m in vars(obj).items() if inspect.isfunction(m) and m.__doc__]
        for where, member in members:
            entries = [e.strip("*") for part in documented(member.__doc__) for e in part.split(", ")]
            parameters = set(inspect.signature(member).parameters) if entries else set()
            assert set(entries) <= parameters, f"{module}.{where} documents {sorted(set(entries) - parameters)}"
