"""Work in several processes that can be cut off: every finished piece is a line in a file, and is not done again."""

import json
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import TimeoutError as TooLate
from multiprocessing import get_context
from pathlib import Path
from typing import Any

Pieces = Iterator[tuple[str, Any]]
Known = dict[str, Any]


def read(file: Path) -> Known:
    """Everything in a file; a line that was cut off is left out."""
    known: Known = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            known.update(json.loads(line))
        except ValueError:
            continue
    return known


def write(file: Path, key: str, value: Any) -> None:
    """Append a piece, whole even where other processes append too."""
    with file.open("ab", buffering=0) as stream:
        stream.write(f"{json.dumps({key: value})}\n".encode())


def _finish(job: tuple[Callable[..., Pieces], tuple[Any, ...], Path, str]) -> str:
    work, arguments, file, name = job
    known = read(file)
    try:
        for key, value in work(known, *arguments):
            write(file, key, value)
    except Exception:  # the other tasks go on
        traceback.print_exc()
        return f"{name} failed"
    return name


def finish(work: Callable[..., Pieces], tasks: Sequence[tuple[Any, ...]], file: Path, jobs: int, until: float) -> bool:
    """Whether all tasks were done before the time `until`; `work(known, *task)` yields what is not known yet."""
    named = (f"{i} of {len(tasks)}: {' '.join(map(str, task[:4]))}" for i, task in enumerate(tasks, 1))
    work_of = [(work, task, file, name) for task, name in zip(tasks, named, strict=True)]
    with file.open("ab") as stream:
        stream.write(b"\n")  # after a line that was cut off
    if jobs == 1:
        for job in work_of:
            if time.monotonic() > until:
                return False
            print(_finish(job), flush=True)
        return True
    with get_context("fork").Pool(jobs) as pool:  # which ends what is still at work
        done = pool.imap_unordered(_finish, work_of)
        try:
            for _ in tasks:
                print(done.next(max(until - time.monotonic(), 0.1)), flush=True)
        except TooLate:
            return False
    return True
