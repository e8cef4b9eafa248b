"""A disk that refuses a write of sample, tune or compare: one line, nothing half-written, and a second call ends."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from test_record import EVERY, watched

from scoresde.cli.main import main
from scoresde.comparison import output

RUN = Path(__file__).parent / "fixtures" / "d14582e" / "run"
CALLS = {
    "sample": "run=run n=6 batch_size=2 solver=heun sampler.steps=2 out=run/new",
    "tune": "run=run sampler.steps=3 tune.n=16 tune.iterations=1 tune.fine=10",
    "compare": "problem=mixture_2d solvers=[heun] budgets=[4] n=20 seeds=2 reference.n=0 metrics=[distances] "
    "logger=none out=new",
}


def files(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*"))


def started(place: Path) -> Path:
    shutil.copytree(RUN, place / "run", ignore=shutil.ignore_patterns("samples", "tuned"))
    return place


@pytest.mark.parametrize("command", CALLS)
def test_a_disk_that_refuses_any_write_is_one_line_and_a_second_call_ends(tmp_path, monkeypatch, capsys, command):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for slow in ("quality", "pictures"):  # whose files are written as the others are
        monkeypatch.setattr(output, slow, lambda *about: [])

    def call(place: Path) -> int:
        monkeypatch.chdir(place)
        typed = CALLS[command].replace("run=run", f"run={place}/run").replace("out=", f"out={place}/")
        return main([command, *typed.split()])

    whole = started(tmp_path / "whole")
    with watched(whole) as seen:
        assert call(whole) == 0
    refused: list[Path] = []

    def refuse(event: str, path: Path) -> None:
        if event not in ("os.remove", "os.rmdir"):
            refused.append(path)
            raise OSError(numbers[k % 3], os.strerror(numbers[k % 3]), str(path))

    numbers = [errno.ENOSPC, errno.EROFS, errno.EACCES]
    for k in range(1, seen.count + 1, 4 * EVERY):
        place = started(tmp_path / str(k))
        refused.clear()
        capsys.readouterr()
        with watched(place, k, refuse):
            code = call(place)
        (line, *more) = [row for row in capsys.readouterr().err.splitlines() if row.startswith("error: ")] or [""]
        assert (code, more) == ((2, []) if refused else (0, [])), f"change {k}: {line}"
        assert not refused or os.strerror(numbers[k % 3]) in line
        assert not [path for path in place.rglob(".*") if path.name != ".lock"], f"change {k}"
        assert call(place) == 0
        assert files(place) == files(whole), f"change {k}: {line}"
