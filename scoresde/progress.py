"""What a terminal shows meanwhile: progress bars, also in a notebook, but none in a file; notes; and its width."""

import shutil
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{unit} [{elapsed}, {remaining} left]"  # with an estimate


def bar(total: float, label: str, hidden: bool = False, **arguments: Any) -> Any:
    """A bar of tqdm.

    Args:
        total: amount of work.
        label: what is being done.
        hidden: show nothing.
        arguments: of tqdm.
    """
    notebook = _in_notebook()
    module = import_module("tqdm.notebook" if notebook and find_spec("ipywidgets") else "tqdm")
    return module.tqdm(total=total, desc=label, disable=hidden or (False if notebook else None), **arguments)


def _in_notebook() -> bool:
    """Whether a kernel runs this, and not a program that only imports one."""
    python = sys.modules.get("IPython")
    return python is not None and hasattr(python.get_ipython(), "kernel")


def note(text: str) -> None:
    """Say on stderr how an input was taken where it could mean something else."""
    print(text, file=sys.stderr)


def columns(least: int) -> int:
    """The width of the terminal in characters, and no less than some: wrapping would be worse than long lines."""
    return max(shutil.get_terminal_size((120, 24)).columns, least)
