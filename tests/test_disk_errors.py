"""A disk that refuses a write of a command: one line, nothing half-written, and a new call works."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from score_sde_layout import checkpoint, config
from test_record import EVERY, watched

from scoresde.cli.main import main
from scoresde.comparison import output
from scoresde.convert import convert, to_diffusers
from scoresde.model import ScoreModel
from scoresde.nets import NCSNpp
from scoresde.sde import VPSDE

RUN = Path(__file__).parent / "fixtures" / "d14582e" / "run"
CALLS = {
    "sample": "run=run n=6 batch_size=2 solver=heun sampler.steps=2 out=run/new",
    "tune": "run=run sampler.steps=3 tune.n=16 tune.iterations=1 tune.fine=10",
    "compare": "problem=mixture_2d solvers=[heun] budgets=[4] n=20 seeds=2 reference.n=0 metrics=[distances] "
    "logger=none out=new",
    "convert": "file=checkpoint.pth config=config.json out=new",
    "convert to=diffusers": "run=ddpm out=new",
}
FEW = 40  # changes, of which more are tried


def files(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*"))


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the calls read: a run, a checkpoint of score_sde, and a run that diffusers can hold."""
    place = tmp_path_factory.mktemp("given")
    shutil.copytree(RUN, place / "run", ignore=shutil.ignore_patterns("samples", "tuned"))
    torch.save(checkpoint(config("vpsde"))[0], place / "checkpoint.pth")
    (place / "config.json").write_text(json.dumps(config("vpsde")))
    form = {"block": "ddpm", "fir": False, "progressive_input": "none", "rescale": False, "noise": "positional"}
    net = NCSNpp((3, 8, 8), channels=8, multipliers=(1, 2), blocks=1, attention=(), groups=4, group_width=1, **form)
    to_diffusers(ScoreModel(net, VPSDE(), "eps"), place / "unet", (3, 8, 8))
    convert(place / "unet", place / "ddpm")
    return place


def started(place: Path, given: Path) -> Path:
    return Path(shutil.copytree(given, place))


@pytest.mark.parametrize("command", CALLS)
def test_a_disk_that_refuses_a_write_is_one_line_and_a_second_call_ends(tmp_path, given, monkeypatch, capsys, command):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for slow in ("quality", "pictures"):  # whose files are written as the others are
        monkeypatch.setattr(output, slow, lambda *about: [])

    def call(place: Path) -> int:
        monkeypatch.chdir(place)
        typed = CALLS[command].replace("run=run", f"run={place}/run").replace("out=", f"out={place}/")
        return main([*command.split(), *typed.split()])

    whole = started(tmp_path / "whole", given)
    with watched(whole) as seen:
        assert call(whole) == 0
    refused: list[Path] = []

    def refuse(event: str, path: Path) -> None:
        if event not in ("os.remove", "os.rmdir"):
            refused.append(path)
            raise OSError(numbers[k % 3], os.strerror(numbers[k % 3]), str(path))

    numbers = [errno.ENOSPC, errno.EROFS, errno.EACCES]
    for k in range(1, seen.count + 1, 4 * EVERY if seen.count > FEW else EVERY):
        place = started(tmp_path / str(k), given)
        refused.clear()
        capsys.readouterr()
        with watched(place, k, refuse):
            code = call(place)
        (line, *more) = [row for row in capsys.readouterr().err.splitlines() if row.startswith("error: ")] or [""]
        assert (code, more) == ((2, []) if refused else (0, [])), f"change {k}: {line}"
        assert not refused or os.strerror(numbers[k % 3]) in line
        assert f".{os.getpid()}" not in line  # of a temporary file, which the user does not know
        assert not [path for path in place.rglob(".*") if path.name != ".lock"], f"change {k}"
        assert call(place) == 0
        assert files(place) == files(whole), f"change {k}: {line}"
