"""A command in several processes: the first one does all, the others train with it in silence."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from scoresde.parallel import world


@contextmanager
def taking_part(arguments: Sequence[str]) -> Iterator[bool]:
    """A context in which a process that is not the first one is silent; whether it has a part in a command."""
    if world().first:
        yield True
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield arguments[:1] == ["train"] and not {"--help", "-h", "--cfg", "-c"} & set(arguments)
