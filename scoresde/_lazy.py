"""Packages that import a module when one of its names is first asked for."""

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any


def lazy(
    package: str, names: Mapping[str, str], parts: str = ""
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package.

    Args:
        package: its `__name__`.
        names: the public names of each of its modules, separated by spaces.
        parts: modules that are attributes themselves.
    """
    modules = {name: f"{package}.{module}" for module, listed in names.items() for name in listed.split()}

    def get(name: str) -> Any:
        if name in modules:
            with _uncollected():
                return getattr(import_module(modules[name]), name)
        if name in parts.split():
            return import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get, lambda: sorted({*modules, *parts.split()}), sorted(modules)


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
