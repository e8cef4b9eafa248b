"""A command in several processes: the first one does all, the others compute with it in silence."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from scoresde.cli.command import named
from scoresde.parallel import world

_SHARED = ("train", "classifier", "sample", "compare", "evaluate")  # commands in which all have a part


@contextmanager
def taking_part(arguments: Sequence[str]) -> Iterator[bool]:
    """A context in which a process that is not the first one is silent; whether it has a part in a command."""
    if world().first:
        yield True
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield bool({*named(arguments)[:1]} & {*_SHARED}) and not {"--help", "-h", "--cfg", "-c"} & set(arguments)
