"""Packages that import a module when one of its names is first asked for."""

import gc
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any


def lazy(package: str, parts: str = "") -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package, whose names are those of its stub, __init__.pyi.

    Args:
        package: its `__name__`.
        parts: modules that are attributes themselves, separated by spaces.
    """
    folder = Path(__file__).parent.joinpath(*package.split(".")[1:])
    stub = (folder / "__init__.pyi").read_text(encoding="utf-8")
    modules = {name: module for module, name in re.findall(r"^from (\S+) import (\w+) as", stub, re.MULTILINE)}

    def get(name: str) -> Any:
        with _uncollected():
            if name in parts.split():
                return import_module(f"{package}.{name}")
            if name in modules:
                return getattr(import_module(modules[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get, lambda: sorted({*modules, *parts.split()}), sorted(name for name in modules if name[0] != "_")


@contextmanager
def _uncollected() -> Iterator[None]:
    """Pause garbage collection: what an import makes stays, and a full pass over the objects of torch takes 50 ms."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
